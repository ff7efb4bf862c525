"""The ranking of a study, from per-clip margins to the table that the report prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate_all
from siglip_study.ranking.influence import leave_one_out
from siglip_study.ranking.pairs import baseline_tests, pair_tests, rank_intervals
from siglip_study.ranking.scorer_check import ScorerCheck
from siglip_study.ranking.scores import group_means, mean_intervals
from siglip_study.ranking.variance import MARGIN_ROUNDING, Array
from siglip_study.ranking.within import known_group_means, within_demand
from siglip_study.ranking.wording import (
    Circumstances,
    caveats,
    influence_sentence,
    verdict_sentence,
    why_no_ranks,
)

# ---- Runs that are one run under two seeds: their agreement says nothing of what a seed does.


def copied_runs(margins: Mapping[str, Array]) -> list[str]:
    """Projectors of which two runs have the same D on every clip, ``{projector: [S, n]}``.

    Trainings that differ at all differ in some digit of some clip. D of 0 everywhere is left out:
    captions that are all the same have it, whatever they are.
    """
    return [
        label
        for label, table in margins.items()
        if any(
            np.array_equal(a, b) and np.abs(a).max() > MARGIN_ROUNDING
            for a, b in combinations(np.asarray(table, dtype=float), 2)
        )
    ]


@dataclass(frozen=True)
class Entry:
    """One projector on the report split.

    ``margins`` is D, ``[S, n]`` with clips in one order for the whole study; ``effective`` and
    ``top_share`` hold one value a seed. ``within`` is D within category, ``[S, n]``, NaN for a clip
    without; it may be absent where the references have none.
    """

    margins: ArrayLike
    effective: ArrayLike
    top_share: ArrayLike
    within: ArrayLike | None = None


def rank(
    entries: Mapping[str, Entry],
    groups: Sequence[str],
    references: References,
    scorer: ScorerCheck,
    retrieval: ArrayLike | None = None,
    thresholds: GateThresholds | None = None,
    circumstances: Circumstances | None = None,
) -> dict[str, Any]:
    """Steps 3 to 9 of the procedure: gate, test all pairs, rank what may be ranked.

    Args:
        entries: the projectors of the study, controls left out.
        groups: source video of each of the n clips (its id where there is none).
        references: the human captions' figures on the same clips.
        scorer: what the scorer makes of the human captions.
        retrieval: D of the nearest-train-clip captions, ``[n]``.
        thresholds: of the gate, with the study's alpha.
        circumstances: what limits the figures.

    Returns:
        The body of ``ranking.json`` (schema ``ranking/1``): JSON types only. Projectors stand in
        falling order of mean D, those ranked first.

    Raises:
        StudyError: unequal seeds or clips, values that are no numbers.
    """
    limits = thresholds or GateThresholds()
    given = circumstances or Circumstances()
    scores: dict[str, Any] = {}
    by_clip: dict[str, Any] = {}
    for label, entry in entries.items():
        table = np.asarray(entry.margins, dtype=float)
        if table.ndim != 2 or table.shape[1] != len(groups):
            raise StudyError(
                f"projector '{label}': margins of shape {table.shape}; "
                f"expected [seeds, {len(groups)}], one a clip."
            )
        by_clip[label] = table
        scores[label] = group_means(table, groups)[1]
    # A fixed order, so that neither the verdict nor the signs depend on the order of entry.
    scores = dict(sorted(scores.items(), key=lambda item: (-float(item[1].mean()), item[0])))
    gates = gate_all(
        {
            label: Candidate(
                entries[label].effective,
                entries[label].top_share,
                table,
                _within(entries[label], groups),
            )
            for label, table in scores.items()
        },
        references,
        limits,
    )
    demand = within_demand(references.within, limits.alpha, limits.within_category)
    means = {mean.label: mean for mean in mean_intervals(scores, limits.alpha)}
    tests = pair_tests(scores, limits.alpha)
    influence = leave_one_out(scores, sorted(set(groups)), limits.alpha)
    n_seeds, n_groups = next(iter(scores.values())).shape
    grounded = [label for label in scores if gates[label].may_be_ranked]
    why_not = why_no_ranks(
        None if scorer.can_tell else scorer.sentence,
        n_seeds,
        n_groups,
        grounded,
        len(groups),
        any(verdict.verdict == "category_only" for verdict in gates.values()),
        copied_runs({label: by_clip[label] for label in grounded}),
    )
    above = list(scores)[: list(scores).index(grounded[0])] if grounded else []
    ranks = {} if why_not else rank_intervals(tests, grounded)
    bar = None if retrieval is None else group_means(retrieval, groups)[1]
    against_bar = None if bar is None else baseline_tests(scores, bar, limits.alpha)
    projectors = [
        {
            "projector": label,
            "mean_margin": means[label].mean,
            "low": means[label].low,
            "high": means[label].high,
            "interval_basis": means[label].basis,
            "rank_low": ranks[label][0] if label in ranks else None,
            "rank_high": ranks[label][1] if label in ranks else None,
            "gate": gates[label].verdict,
            "gate_reason": gates[label].reason,
            "stamps": list(gates[label].stamps),
            "ranked": label in ranks,
            "numbers": gates[label].numbers,
            "seed_sd": means[label].seed_sd,
        }
        for label in sorted(scores, key=lambda name: name not in ranks)
    ]
    return {
        "alpha": limits.alpha,
        "seeds": int(n_seeds),
        "n_groups": int(n_groups),
        "n_clips": len(groups),
        "can_rank": why_not is None,
        "why_not": why_not,
        "verdict": verdict_sentence(why_not, grounded, tests, ranks, above, scorer.mean_margin),
        "scorer_can_tell": scorer.can_tell,
        "scorer": asdict(scorer),
        "projectors": projectors,
        "within_category": asdict(demand),
        "pairs": [asdict(test) for test in tests],
        "influence": {
            "sentence": influence_sentence(influence),
            "pairs": [asdict(pair) for pair in influence],
        },
        "retrieval": None
        if bar is None or against_bar is None
        else {
            "mean_margin": float(bar.mean()),
            "cleared_by": [test.projector for test in against_bar if test.cleared],
            "comparisons": [asdict(test) for test in against_bar],
        },
        "caveats": caveats(
            given,
            gates,
            against_bar,
            n_seeds,
            n_groups,
            len(groups),
            scorer.human_scale,
            demand,
            limits.alpha,
        ),
    }


def _within(entry: Entry, groups: Sequence[str]) -> np.ndarray | None:
    return None if entry.within is None else known_group_means(entry.within, groups)
