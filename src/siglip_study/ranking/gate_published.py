"""The gate for published rows, of which only the share of distinct strings is known."""

from __future__ import annotations

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import GateVerdict
from siglip_study.ranking.gate_inputs import GateThresholds


def gate_by_diversity_alone(
    distinct_ratio: float,
    reference_distinct_ratio: float = 1.0,
    thresholds: GateThresholds | None = None,
) -> GateVerdict:
    """Verdict on a published row, of which only distinct strings / strings is known.

    Effective captions cannot exceed the distinct ratio (near-duplicates merge, entropy is at most
    the logarithm of the number of clusters), so a low ratio proves low diversity. A high one proves
    nothing: the published runs had 1.00 where every caption opened alike.
    """
    limits = thresholds or GateThresholds()
    for name, value in (("distinct", distinct_ratio), ("reference", reference_distinct_ratio)):
        if not 0 <= value <= 1:
            raise StudyError(f"{name} ratio of a published run is {value}; expected 0 to 1.")
    limit = limits.min_effective_ratio * reference_distinct_ratio
    low = distinct_ratio < limit
    numbers = {"distinct_ratio": distinct_ratio, "effective_captions_limit": limit}
    numbers["reference_distinct_ratio"] = reference_distinct_ratio
    found = f"{distinct_ratio:.2f} distinct captions a clip against a limit of {limit:.2f}"
    if low:
        reason = f"Collapsed by diversity alone: {found}; effective captions cannot exceed that."
        return GateVerdict("collapsed", True, ("collapsed by diversity alone",), numbers, reason)
    reason = f"Undetermined: {found}, and distinct strings cannot show near-duplicates."
    return GateVerdict("undetermined", None, ("published figures only",), numbers, reason)
