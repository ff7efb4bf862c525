"""How many clips and seeds a difference needs, asked before anything is trained.

Run with:

    python -m siglip_study.planning.power config/study.yaml   # after the scorer check of that study
    python -m siglip_study.planning.power --references scorer_check.json
    python -m siglip_study.planning.power --sd 1 --seed-sd 0.03 0.03 0.4 0.1 --projectors 4
    python -m siglip_study.planning.power --ranking results/tables/ranking.json   # after a study

All figures are in M, the standardised margin that ranks.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.planning.power_design import (
    SD_RATIO,
    SEED_RATIO,
    Design,
    GateDesign,
    asked_within,
    from_references,
    groups_needed,
)
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.procedure import RANKING_SCHEMA, Ranking, read_ranking
from siglip_study.ranking.scorer_check import CHECK_SCHEMA
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.seen import WITHIN
from siglip_study.ranking.within import WithinSpread, known_group_means, spread_within
from siglip_study.study.paths import Paths

#: A difference to ask for where none is given, as a share of the references' M.
_ASKED = 0.1
_GROUPS, _SEEDS = (30, 60, 97, 200, 400, 1000), (1, 2, 3, 5, 8)
#: Projectors whose chance to pass the gate is told, by their share of the references' M.
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
#: Multiples of a finished study's clips.
_TIMES = (1.5, 2.0, 4.0)


@dataclass(frozen=True)
class ReferenceScores:
    """Mean and SD over groups of the references' M, and how many groups there are.

    ``within`` is their M within category, where a clip has one.
    """

    mean: float
    sd: float
    n_groups: int
    source: str
    within: WithinSpread | None = None


def read_references(path: Path) -> ReferenceScores:
    """The references' M from ``scorer_check.json``, ``ranking.json`` or their ``clips.parquet``.

    Raises:
        StudyError: no such file, another kind of file, or a single group.
    """
    from_clips = path.suffix == ".parquet"
    if not path.is_file():
        kind = "clips" if from_clips else "scores"
        raise StudyError(f"{path}: no such file; expected the references' {kind}.")
    return _from_clips(path) if from_clips else _from_check(path)


def _check_groups(path: Path, n: int) -> None:
    if n < 2:
        raise StudyError(f"{path}: {n} group of clips; expected at least 2.")


def _from_check(path: Path) -> ReferenceScores:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StudyError(f"{path}: not readable as JSON ({error}).") from None
    if not isinstance(body, dict):
        raise StudyError(f"{path}: holds a {type(body).__name__}; expected an object.")
    if body.get("schema") == CHECK_SCHEMA:
        # The split whose figures are published decides.
        check = body["splits"][body["decides"]]
    elif body.get("schema") == RANKING_SCHEMA:
        check = body["scorer"]
    else:
        raise StudyError(
            f"{path}: schema {body.get('schema')!r}; expected {CHECK_SCHEMA}, {RANKING_SCHEMA}, or "
            "a Parquet file of the references' clips."
        )
    groups, spread = int(check["n_groups"]), check.get("standardised")
    _check_groups(path, groups)
    if spread is None:
        raise StudyError(
            f"{path}: tells the references' D alone; expected their M, as the scorer check of this "
            "version writes it."
        )
    within = None if spread["within"] is None else WithinSpread(**spread["within"])
    return ReferenceScores(spread["mean"], spread["sd"], groups, str(path), within)


def _from_clips(path: Path) -> ReferenceScores:
    import polars as pl

    try:
        columns = ["group", MARGIN]
        if WITHIN in pl.read_parquet_schema(path):
            columns.append(WITHIN)
        clips = pl.read_parquet(path, columns=columns)
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.ComputeError) as error:
        raise StudyError(f"{path}: {error}; expected columns group, {MARGIN}.") from None
    groups = clips["group"].to_list()
    _, by_group = group_means(clips[MARGIN].to_numpy(), groups)
    _check_groups(path, len(by_group))
    within = None
    if WITHIN in columns:
        known = clips[WITHIN].cast(pl.Float64).fill_null(math.nan).to_numpy()
        within = spread_within(by_group, known_group_means(known, groups))
    mean, sd = float(by_group.mean()), float(by_group.std(ddof=1))
    return ReferenceScores(mean, sd, len(by_group), str(path), within)


# ---- The command.


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.planning.power",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, nargs="?", help="a study whose scorer check has run")
    parser.add_argument("--references", type=Path, help="scorer_check.json or clips.parquet")
    parser.add_argument("--ranking", type=Path, help="ranking.json of a finished study")
    parser.add_argument("--more", type=int, default=5, help="seeds more, after a study")
    parser.add_argument("--sd", type=float, help="SD of one run's M over source videos")
    parser.add_argument(
        "--seed-sd", type=float, nargs="+", help="SD of a run's mean M over seeds, or one each"
    )
    parser.add_argument("--between-projectors", type=float, help="correlation over clips")
    parser.add_argument("--between-seeds", type=float, help="correlation over clips")
    parser.add_argument("--difference", type=float, help="difference in M to be found")
    parser.add_argument("--groups", type=int, help="source videos of the study")
    parser.add_argument("--seeds", type=int, help="seeds of the study")
    parser.add_argument("--projectors", type=int, help="projectors of the study")
    parser.add_argument("--alpha", type=float, help="level of the claims")
    given = parser.parse_args(arguments)
    told = _report if given.ranking is None else _after
    return exit_status(lambda: print("\n".join(told(given))))


def _report(given: argparse.Namespace) -> Iterator[str]:
    """The lines that the command prints.

    Raises:
        StudyError: neither references nor an SD, figures out of range, unreadable files.
    """
    # What is not given comes from the config, the references, or the published study. A 0 is given.
    study = {"seeds": 3, "projectors": 4, "alpha": 0.05}
    path, wanted = given.references, True
    if given.config is not None:
        config = load(given.config)
        study = {
            "seeds": len(config.seeds.report),
            "projectors": len(config.projectors),
            "alpha": config.gate.alpha,
        }
        wanted = config.gate.within_category
        if path is None and given.sd is None:
            path = Paths(config.output_dir).scorer_check
    study |= {key: value for key in study if (value := getattr(given, key)) is not None}
    seeds, projectors, alpha = int(study["seeds"]), int(study["projectors"]), study["alpha"]
    if seeds < 1:
        raise StudyError(f"power: {seeds} seeds; expected at least 1.")
    references = read_references(path) if path is not None else None
    if references is None and given.sd is None:
        raise StudyError("power: no references and no --sd; expected a config, a file or an SD.")
    keys = ("sd", "seed_sd", "between_projectors", "between_seeds")
    named: dict[str, Any] = {k: value for k in keys if (value := getattr(given, k)) is not None}
    if given.seed_sd is not None:
        named["seed_sd"] = tuple(given.seed_sd)
    assumed = from_references(references.sd if references else given.sd, **named)
    sds = assumed.seed_sds(projectors)
    distinct = sds if len(set(sds)) > 1 else sds[:1]
    # Where seed noise is unequal, what is told of one pair is told of the noisiest.
    pair = _noisiest(sds)
    groups, difference = given.groups, given.difference
    if groups is None:
        groups = references.n_groups if references else 97
    if difference is None:
        difference = _ASKED * references.mean if references else 0.5 * assumed.sd

    if references:
        yield (
            f"References ({references.source}): M {references.mean:.4f}, SD {references.sd:.4f} "
            f"over {references.n_groups} source videos."
        )
    yield (
        f"Assumed: SD of a run's M over source videos {assumed.sd:.4f}"
        + ("" if given.sd else f" ({SD_RATIO} × the references', as in the demo)")
        + f"; SD of a run's mean over seeds {', '.join(f'{sd:.4f}' for sd in distinct)}"
        + ("" if given.seed_sd is not None else f" ({SEED_RATIO} of that, as in the demo)")
        + f"; correlation over clips {assumed.between_projectors:g} between projectors, "
        f"{assumed.between_seeds:g} between seeds of one."
    )
    pairs = projectors * (projectors - 1) // 2
    yield f"{projectors} projectors, {pairs} pairs, Holm at {alpha:g}, power 80 %.\n"

    between = " between the two of the noisiest seeds" if len(distinct) > 1 else ""
    yield f"Smallest difference in M that would be found{between}:"
    yield "source videos" + "".join(f"{f'S = {s}':>12}" for s in _SEEDS)
    for g in sorted({*_GROUPS, groups}):
        cells = ["no ranks"] * sum(s < 2 for s in _SEEDS)
        for s in _SEEDS[len(cells) :]:
            cells.append(f"{Design(assumed, g, s, projectors, alpha, pair).detectable():.4f}")
        yield f"{g:>13}" + "".join(f"{cell:>12}" for cell in cells)

    yield f"\nSource videos needed to find a difference of {difference:.4f} in M{between}:"
    for s in _SEEDS:
        told = "no ranks with one seed"
        if s > 1:
            needed = groups_needed(assumed, difference, s, projectors, alpha, pair)
            told = f"{needed:,}" if needed else "none suffices: the seeds alone hide it"
        yield f"  S = {s}: {told}"

    if seeds < 2:
        yield "\nThis study has one seed: no ranks, whatever the number of clips."
    else:
        yield ""
        for members in combinations(range(projectors), 2) if len(distinct) > 1 else [pair]:
            own = Design(assumed, groups, seeds, projectors, alpha, members)
            noise = " and ".join(f"{sds[member]:.4f}" for member in members)
            yield (
                f"This study ({groups} source videos, {seeds} seeds)"
                + (f", seed SDs {noise}" if len(distinct) > 1 else "")
                + f": smallest detectable difference {own.detectable():.4f}; power for "
                f"{difference:.4f} is {own.power(difference):.0%}."
            )
    if references:
        yield ""
        within = references.within if asked_within(references.within, alpha, wanted) else None
        gate = GateDesign(assumed, within, references.sd, groups, seeds, projectors, alpha)
        yield from _passing(references, gate, wanted)


def _passing(references: ReferenceScores, design: GateDesign, wanted: bool) -> Iterator[str]:
    """How probably projectors of a share of the references' M pass the gate, a line each."""
    within, seeds = design.within, design.n_seeds
    if within:
        second = f"M within category above 0 too, the references' being {within.mean:.4f}"
    elif references.within is None and wanted:
        second = "M within category is unknown here and not counted"
    else:
        second = "M within category is not asked for"
    study = f"{design.n_groups} source videos and {seeds} seed" + ("s" if seeds != 1 else "")
    noisiest = (
        ", of the noisiest seeds" if len(set(np.atleast_1d(design.assumed.seed_sd))) > 1 else ""
    )
    yield f"Passing the gate with {study}{noisiest} (M above 0, {second}; Holm's strictest step):"
    for share in _SHARES:
        chance = design.passing(share * references.mean, share * within.mean if within else None)
        figures = f"{share * references.mean:.4f}"
        if within:
            figures += f", {share * within.mean:.4f} within"
        yield f"  {share:>4.0%} of the references' M ({figures}): {chance:.0%}"


# ---- After a study.


def _after(given: argparse.Namespace) -> Iterator[str]:
    """What more seeds and clips would tell of each pair of a finished study, and cost.

    Raises:
        StudyError: the file is no ranking, or of a study with one seed or source video.
    """
    path, ranking = given.ranking, read_ranking(given.ranking)
    if not ranking.plans:
        raise StudyError(
            f"{path}: holds no plan of a pair; expected the ranking of two projectors or more with "
            "two seeds and source videos at least, as this version writes it."
        )
    if given.more < 1:
        raise StudyError(f"--more is {given.more}; expected at least 1.")
    first = ranking.plans[0].plan
    yield (
        f"{path}: {len(first.seed)} projectors, {first.n_seeds} seeds, {first.n_groups} source "
        f"videos; {first.n_pairs} pairs, Holm at {first.alpha:g}."
    )
    yield "SD of a run's mean M over seeds, what clips do left out: " + ", ".join(
        f"{label} {math.sqrt(variance):.3f}" for label, variance in _seed_variances(ranking)
    )
    yield "Power for each difference as measured (where it was claimed, as shrunken), in M:\n"
    seeds = [first.n_seeds + more for more in range(given.more + 1)]
    width = max(len(f"{pair.a} - {pair.b}") for pair in ranking.plans)
    heads = [f"S = {seeds[0]}", *(f"{s}" for s in seeds[1:]), *(f"{t:g}x clips" for t in _TIMES)]
    yield f"{'':<{width}}{'difference':>12}" + "".join(f"{head:>11}" for head in heads)
    for pair in ranking.plans:
        powers = [pair.plan.power(pair.difference, n_seeds=s) for s in seeds]
        powers += [pair.plan.power(pair.difference, times_clips=t) for t in _TIMES]
        figures = "".join(f"{power:>11.0%}" for power in powers)
        yield f"{f'{pair.a} - {pair.b}':<{width}}{pair.difference:>12.4f}{figures}"
    if ranking.hours:
        runs = ranking.hours.values()
        a_seed, captions = sum(run.total for run in runs), sum(run.captions for run in runs)
        hours = [more * a_seed for more in range(given.more + 1)]
        hours += [(t - 1) * first.n_seeds * captions for t in _TIMES]
        yield f"{'hours more':<{width}}{'':>12}" + "".join(f"{h:>11.3g}" for h in hours)
        yield (
            "\nOne seed more takes every projector a run, in GPU-hours (or the machine's own): "
            + (", ".join(f"{label} {run.total:.3g}" for label, run in ranking.hours.items()) + ".")
        )


def _seed_variances(ranking: Ranking) -> list[tuple[str, float]]:
    found = {}
    for pair in ranking.plans:
        for label, member in zip((pair.a, pair.b), pair.plan.members, strict=True):
            found[label] = pair.plan.seed[member]
    return list(found.items())


def _noisiest(sds: Sequence[float]) -> tuple[int, int]:
    """Places of the two largest; the first two of equals."""
    order = sorted(range(len(sds)), key=lambda place: -sds[place])
    return (min(order[:2]), max(order[:2])) if len(sds) > 1 else (0, 1)


if __name__ == "__main__":
    raise SystemExit(main())
