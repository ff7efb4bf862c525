"""Sentences on results, made from typed results, in both languages; nothing reads one back.

``labels`` has what stands on the page alike for every study, ``glossary`` what its terms mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siglip_study.report.wording.claims import (
    category_sentence,
    claim_sentence,
    company,
    control_failed,
    copying_sentence,
    data_line,
    failed_runs,
    generic_sentence,
    influence,
    metric_orders_sentence,
    more_claims,
    not_computed,
    retrieval_sentence,
    run_influence,
    seed_of,
    sound_runs,
    truth_order,
)
from siglip_study.report.wording.conclusion import advice, answer, caveats, why_no_ranks
from siglip_study.report.wording.gate import (
    gate_explained,
    gate_name,
    gate_reason,
    half_name,
    passed_over,
    published_name,
    published_reason,
    refused_cells,
    scorer_check,
    stamps,
    tuning_seeds,
    within_demand_sentence,
)

__all__ = [
    "FILTERS",
    "advice",
    "answer",
    "category_sentence",
    "caveats",
    "claim_sentence",
    "company",
    "control_failed",
    "copying_sentence",
    "data_line",
    "failed_runs",
    "gate_explained",
    "gate_name",
    "gate_reason",
    "generic_sentence",
    "half_name",
    "influence",
    "metric_orders_sentence",
    "more_claims",
    "not_computed",
    "passed_over",
    "published_name",
    "published_reason",
    "refused_cells",
    "retrieval_sentence",
    "run_influence",
    "scorer_check",
    "seed_of",
    "sound_runs",
    "stamps",
    "truth_order",
    "tuning_seeds",
    "why_no_ranks",
    "within_demand_sentence",
]

#: Templates call these by name: ``{{ ranking|caveats }}``.
FILTERS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (caveats, gate_explained, gate_name, influence, scorer_check, stamps)
}
