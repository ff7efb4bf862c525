"""Is the scorer able to tell right captions from wrong ones? Asked before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_result, write_json
from siglip_study.metrics import siglip
from siglip_study.metrics.grounding import (
    auc,
    auc_within,
    grounding_margin,
    large_categories,
    mean_interval,
    standardised_margin,
    standardised_margin_within,
)
from siglip_study.metrics.ids import check_same_ids
from siglip_study.ranking.scores import group_means, t_interval
from siglip_study.ranking.variance import MARGIN_ROUNDING, contrast_variance, one_sided_p
from siglip_study.ranking.within import MarginSpread, known_group_means, spread_within

if TYPE_CHECKING:
    import polars as pl

    from siglip_study.config.study import ScorerConfig
    from siglip_study.features.scorer import TextScorer

#: Shares of the references that are swapped with one another.
SWAPPED_SHARES: tuple[float, ...] = (0.0, 0.10, 0.25, 0.50, 1.0)

#: The scale "human = 1" divides by the references' D; below this many standard errors the
#: quotient would be mostly noise.
HUMAN_SCALE_ERRORS = 5.0

#: Scores ``[n, n]``, source videos and categories of a set of clips.
Block = tuple[ArrayLike, Sequence[str], Sequence[str | None] | None]


@dataclass(frozen=True)
class SwapPoint:
    """Mean D with ``share`` of the captions deranged: mean and central 95 % over the draws."""

    share: float
    n_swapped: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ScorerCheck:
    """What the scorer makes of the human references.

    ``low``/``high`` bound mean D at 1 − alpha over groups (``None`` for one group); ``auc`` is the
    chance that a caption fits its clip better than another clip, 0.5 being blind, with bounds of
    the same kind; ``auc_within_category`` the same among clips of its category, of three clips at
    least (``None`` if there are none). ``human_scale`` says whether "human = 1" may be printed;
    ``standardised`` is their M, of two source videos or more.
    """

    mean_margin: float
    low: float | None
    high: float | None
    p: float
    auc: float
    auc_low: float | None
    auc_high: float | None
    auc_within_category: float | None
    auc_within_low: float | None
    auc_within_high: float | None
    n_within_category: int
    swapped: tuple[SwapPoint, ...]
    n_clips: int
    n_groups: int
    can_tell: bool
    human_scale: bool
    alpha: float
    standardised: MarginSpread | None = None


def uniform_derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly drawn permutation of ``range(n)`` that leaves nothing in place, n ≥ 2."""
    while True:  # accepted with probability near 1/e, so a handful of draws
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def swapped_curve(
    blocks: Sequence[np.ndarray], rng: np.random.Generator, draws: int = 50
) -> tuple[SwapPoint, ...]:
    """Mean D as ever more captions are swapped with one another, within each block of clips.

    Mean D is the mean of the diagonal minus the mean off the diagonal, so a swap needs no new
    matrix. A share too small for two captions swaps two, as one cannot be swapped alone.
    """
    weights = np.array([len(scores) for scores in blocks], dtype=float)
    points = []
    for share in SWAPPED_SHARES:
        counts, values = zip(
            *(_swapped(scores, share, rng, draws) for scores in blocks), strict=True
        )
        drawn = weights / weights.sum() @ np.stack(values)
        low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
        points.append(SwapPoint(share, sum(counts), float(np.mean(drawn)), low, high))
    return tuple(points)


def _swapped(
    scores: np.ndarray, share: float, rng: np.random.Generator, draws: int
) -> tuple[int, np.ndarray]:
    """How many captions are swapped, and mean D in each draw (one where nothing is)."""
    n = len(scores)
    total = scores.sum()
    count = 0 if share == 0 else min(n, max(2, round(share * n)))
    values = []
    for _ in range(draws if count else 1):
        caption = np.arange(n)
        if count:
            chosen = rng.choice(n, count, replace=False)
            caption[chosen] = chosen[uniform_derangement(count, rng)]
        own = scores[caption, np.arange(n)].sum()
        values.append(own / n - (total - own) / (n * (n - 1)))
    return count, np.array(values)


def _mean_auc(
    per_clip: np.ndarray, groups: Sequence[str], alpha: float
) -> tuple[float | None, float | None, float | None]:
    """Mean AUC over groups with Wilson's interval; clips without one left out."""
    mean, low, high = mean_interval(per_clip, groups, 1 - alpha, share=True)
    return _known(mean), _known(low), _known(high)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def check_scorer(
    scores: ArrayLike,
    groups: Sequence[str],
    categories: Sequence[str | None] | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> ScorerCheck:
    """Judge the scorer by the human references.

    ``scores`` ``[n, n]`` are those of reference i with clip j; ``seed`` is of the draws of the
    swapped-reference curve. The scorer can tell if the one-sided lower bound of the references'
    mean D is above 0.
    """
    return check_blocks([(scores, groups, categories)], alpha, seed)


def check_blocks(blocks: Sequence[Block], alpha: float = 0.05, seed: int = 0) -> ScorerCheck:
    """Judge the scorer by references in several sets of clips, each compared within itself."""
    matrices = [np.asarray(scores, dtype=float) for scores, _, _ in blocks]
    groups = [group for _, own, _ in blocks for group in own]
    margins = np.concatenate([grounding_margin(matrix) for matrix in matrices])
    n = max(len(matrix) for matrix in matrices)
    _, by_group = group_means(margins, groups)
    mean, low, high = t_interval(by_group, alpha)
    p, errors = 1.0, 0.0
    # Two clips have the same D by definition.
    if len(by_group) > 1 and n > 2 and mean > MARGIN_ROUNDING:
        variance, df = contrast_variance(by_group, None, ())
        p = float(one_sided_p(mean, variance, df, float(np.abs(by_group).max())))
        errors = mean / float(np.sqrt(variance)) if variance > 0 else float("inf")
    can_tell = p <= alpha
    per_clip = np.concatenate([auc(matrix) for matrix in matrices])
    overall, auc_low, auc_high = _mean_auc(per_clip, groups, alpha)
    overall = 0.5 if overall is None else overall
    categories = [
        large_categories([None] * len(names) if own is None else own) for _, names, own in blocks
    ]
    by_category, inside = (
        np.concatenate([metric(*pair) for pair in zip(matrices, categories, strict=True)])
        for metric in (auc_within, standardised_margin_within)
    )
    _, standardised = group_means(
        np.concatenate([standardised_margin(matrix) for matrix in matrices]), groups
    )
    spread = None
    if len(standardised) > 1:
        own = spread_within(standardised, known_group_means(inside, groups))
        spread = MarginSpread(float(standardised.mean()), float(standardised.std(ddof=1)), own)
    within, within_low, within_high = _mean_auc(by_category, groups, alpha)
    return ScorerCheck(
        mean_margin=mean,
        low=low,
        high=high,
        p=p,
        auc=overall,
        auc_low=auc_low,
        auc_high=auc_high,
        auc_within_category=within,
        auc_within_low=within_low,
        auc_within_high=within_high,
        n_within_category=int(np.isfinite(by_category).sum()),
        swapped=swapped_curve(matrices, np.random.default_rng(seed)),
        n_clips=len(margins),
        n_groups=len(by_group),
        can_tell=can_tell,
        human_scale=can_tell and errors >= HUMAN_SCALE_ERRORS,
        alpha=alpha,
        standardised=spread,
    )


# ---- The check of a study: human captions of the held-out clips, before anything is trained.

CHECK_SCHEMA = "scorer_check/2"

#: The split whose figures are published: its verdict is the study's. Under cross-fitting both
#: halves are, and decide together.
DECIDES, BOTH = "report", "held_out"


@dataclass(frozen=True)
class StudyCheck:
    """The check of each held-out split by one scorer; that of the split ``decides`` counts."""

    model: str
    revision: str | None
    decides: str
    splits: Mapping[str, ScorerCheck]

    @property
    def deciding(self) -> ScorerCheck:
        """The check that counts."""
        return self.splits[self.decides]


def check_references(
    manifest: pl.DataFrame,
    frames: Mapping[str, Mapping[str, np.ndarray]],
    scorer: TextScorer,
    settings: ScorerConfig,
    alpha: float,
    out: Path,
    cross_fit: bool = False,
) -> StudyCheck:
    """Judge the scorer on each held-out split and write ``scorer_check.json``.

    Args:
        manifest: all splits.
        frames: split → id → the scorer's frame embeddings ``[F, E]``; must hold ``report``.
        scorer: embeds the human captions.
        settings: which scorer it is.
        alpha: level.
        out: the JSON file.
        cross_fit: the splits are halves of one and both are reported: judge them together too.

    Raises:
        StudyError: embeddings and manifest name different clips, or a split has fewer than 2 (a
            half that is reported: 3).
    """
    blocks = {split: _block(manifest, split, found, scorer) for split, found in frames.items()}
    checks = {split: check_scorer(*block, alpha) for split, block in blocks.items()}
    if cross_fit:
        for half, check in checks.items():
            if check.n_clips < 3:
                raise StudyError(
                    f"data.splits.held_out: half '{half}' has {check.n_clips} clips, which have "
                    "the same D by definition; expected at least 3 in each half."
                )
        checks[BOTH] = check_blocks(list(blocks.values()), alpha)
    found = StudyCheck(settings.model, settings.revision, BOTH if cross_fit else DECIDES, checks)
    write_json(out, asdict(found), CHECK_SCHEMA)
    return found


def _block(
    manifest: pl.DataFrame, split: str, frames: Mapping[str, np.ndarray], scorer: TextScorer
) -> Block:
    """Scores of a split's references ``[n, n]``, source videos and categories."""
    import polars as pl

    clips = manifest.filter(pl.col("split") == split).sort("id")
    ids = clips["id"].to_list()
    check_same_ids(ids, frames, "the manifest", "the scorer's features")
    if len(ids) < 2:
        raise StudyError(
            f"split '{split}' has {len(ids)} usable clips; expected at least 2, so that a caption "
            "can be tried on another clip."
        )
    embedded = scorer.caption_embeddings([texts[0] for texts in clips["captions"].to_list()])
    chunks = [part.numpy() for part, _ in embedded]
    weights = [part.numpy() for _, part in embedded]
    matrix = siglip.score_matrix(
        chunks, weights, siglip.clip_vectors([frames[clip] for clip in ids])
    )
    return matrix, clips["group"].to_list(), clips["category"].to_list()


def read_check(path: Path) -> StudyCheck:
    """``scorer_check.json``, as :func:`check_references` wrote it."""
    return read_result(path, StudyCheck, CHECK_SCHEMA)


def stop_if_blind(check: StudyCheck, path: Path) -> None:
    """End a study before training where its scorer cannot tell; ``path`` is told for its figures.

    Raises:
        StudyError: the scorer cannot tell.
    """
    found = check.deciding
    if not found.can_tell:
        raise StudyError(
            f"scorer '{check.model}' cannot tell: the references' D is {found.mean_margin:.4f} "
            f"(p {found.p:.3g} that it is not above 0). Nothing was trained; expected a scorer "
            "that can tell, or `scorer.stop_if_blind: false` to train without hope of a verdict "
            f"(figures: {path})."
        )
