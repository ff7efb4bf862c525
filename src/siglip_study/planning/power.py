"""How many clips and seeds a difference needs, asked before anything is trained.

Run with:

    python -m siglip_study.planning.power config/study.yaml   # after the scorer check of that study
    python -m siglip_study.planning.power --references scorer_check.json
    python -m siglip_study.planning.power --sd 0.08 --groups 97 --projectors 4
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.planning.power_design import (
    Design,
    GateDesign,
    asked_within,
    from_references,
    groups_needed,
)
from siglip_study.ranking.procedure import RANKING_SCHEMA
from siglip_study.ranking.scorer_check import CHECK_SCHEMA
from siglip_study.ranking.scores import group_means
from siglip_study.ranking.variance import t_quantile
from siglip_study.ranking.within import WithinSpread, known_group_means, spread_within
from siglip_study.study.paths import Paths

#: A difference to ask for where none is given, as a share of the references' D.
_ASKED = 0.1
_GROUPS, _SEEDS = (30, 60, 97, 200, 400, 1000), (1, 2, 3, 5, 8)
#: Projectors whose chance to pass the gate is told, by their share of the references' D.
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
_WITHIN = "grounding_margin_within"


@dataclass(frozen=True)
class ReferenceScores:
    """Mean and SD over groups of the references' D, and how many groups there are.

    ``within`` is their D within category, where the file tells it.
    """

    mean: float
    sd: float
    n_groups: int
    source: str
    within: WithinSpread | None = None


def read_references(path: Path) -> ReferenceScores:
    """The references' D from ``scorer_check.json``, ``ranking.json`` or their ``clips.parquet``.

    A JSON file holds the interval of mean D, from which the SD follows: half its width is
    t·SD/√G on G − 1 degrees of freedom.

    Raises:
        StudyError: no such file, another kind of file, or a single group.
    """
    from_clips = path.suffix == ".parquet"
    if not path.is_file():
        kind = "clips" if from_clips else "scores"
        raise StudyError(f"{path}: no such file; expected the references' {kind}.")
    return _from_clips(path) if from_clips else _from_interval(path)


def _check_groups(path: Path, n: int) -> None:
    if n < 2:
        raise StudyError(f"{path}: {n} group of clips; expected at least 2.")


def _from_interval(path: Path) -> ReferenceScores:
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
    groups, within = int(check["n_groups"]), check.get("within")
    _check_groups(path, groups)
    t = float(t_quantile(1 - float(check["alpha"]) / 2, groups - 1))
    sd = (check["high"] - check["low"]) / 2 / t * math.sqrt(groups)
    within = None if within is None else WithinSpread(**within)
    return ReferenceScores(float(check["mean_margin"]), sd, groups, str(path), within)


def _from_clips(path: Path) -> ReferenceScores:
    import polars as pl

    try:
        columns = ["group", "grounding_margin"]
        if _WITHIN in pl.read_parquet_schema(path):
            columns.append(_WITHIN)
        clips = pl.read_parquet(path, columns=columns)
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.ComputeError) as error:
        raise StudyError(f"{path}: {error}; expected columns group, grounding_margin.") from None
    groups = clips["group"].to_list()
    _, by_group = group_means(clips["grounding_margin"].to_numpy(), groups)
    _check_groups(path, len(by_group))
    within = None
    if _WITHIN in columns:
        known = clips[_WITHIN].cast(pl.Float64).fill_null(math.nan).to_numpy()
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
    parser.add_argument("--sd", type=float, help="SD of one run's D over source videos")
    parser.add_argument("--seed-sd", type=float, help="SD of a run's mean D over seeds")
    parser.add_argument("--between-projectors", type=float, help="correlation over clips")
    parser.add_argument("--between-seeds", type=float, help="correlation over clips")
    parser.add_argument("--difference", type=float, help="difference in D to be found")
    parser.add_argument("--groups", type=int, help="source videos of the study")
    parser.add_argument("--seeds", type=int, help="seeds of the study")
    parser.add_argument("--projectors", type=int, help="projectors of the study")
    parser.add_argument("--alpha", type=float, help="level of the claims")
    given = parser.parse_args(arguments)
    return exit_status(lambda: print("\n".join(_report(given))))


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
    named = {key: value for key in keys if (value := getattr(given, key)) is not None}
    assumed = from_references(references.sd if references else given.sd, **named)
    groups, difference = given.groups, given.difference
    if groups is None:
        groups = references.n_groups if references else 97
    if difference is None:
        difference = _ASKED * references.mean if references else 0.5 * assumed.sd

    if references:
        yield (
            f"References ({references.source}): D {references.mean:.4f}, SD {references.sd:.4f} "
            f"over {references.n_groups} source videos."
        )
    yield (
        f"Assumed: SD of a run's D over source videos {assumed.sd:.4f}"
        + ("" if given.sd else " (1.3 × the references', as in the demo)")
        + f"; SD of a run's mean over seeds {assumed.seed_sd:.4f}"
        + ("" if given.seed_sd is not None else " (.35 of that, as in the demo)")
        + f"; correlation over clips {assumed.between_projectors:g} between projectors, "
        f"{assumed.between_seeds:g} between seeds of one."
    )
    pairs = projectors * (projectors - 1) // 2
    yield f"{projectors} projectors, {pairs} pairs, Holm at {alpha:g}, power 80 %.\n"

    yield "Smallest difference in D that would be found:"
    yield "source videos" + "".join(f"{f'S = {s}':>12}" for s in _SEEDS)
    for g in sorted({*_GROUPS, groups}):
        cells = ["no ranks"] * sum(s < 2 for s in _SEEDS)
        for s in _SEEDS[len(cells) :]:
            cells.append(f"{Design(assumed, g, s, projectors, alpha).detectable():.4f}")
        yield f"{g:>13}" + "".join(f"{cell:>12}" for cell in cells)

    yield f"\nSource videos needed to find a difference of {difference:.4f} in D:"
    for s in _SEEDS:
        told = "no ranks with one seed"
        if s > 1:
            needed = groups_needed(assumed, difference, s, projectors, alpha)
            told = f"{needed:,}" if needed else "none suffices: the seeds alone hide it"
        yield f"  S = {s}: {told}"

    if seeds < 2:
        yield "\nThis study has one seed: no ranks, whatever the number of clips."
    else:
        own = Design(assumed, groups, seeds, projectors, alpha)
        yield (
            f"\nThis study ({groups} source videos, {seeds} seeds): smallest detectable difference "
            f"{own.detectable():.4f}; power for {difference:.4f} is {own.power(difference):.0%}."
        )
    if references:
        yield ""
        within = references.within if asked_within(references.within, alpha, wanted) else None
        gate = GateDesign(assumed, within, references.sd, groups, seeds, projectors, alpha)
        yield from _passing(references, gate, wanted)


def _passing(references: ReferenceScores, design: GateDesign, wanted: bool) -> Iterator[str]:
    """How probably projectors of a share of the references' D pass the gate, a line each."""
    within, seeds = design.within, design.n_seeds
    if within:
        second = f"D within category above 0 too, the references' being {within.mean:.4f}"
    elif references.within is None and wanted:
        second = "D within category is unknown here and not counted"
    else:
        second = "D within category is not asked for"
    study = f"{design.n_groups} source videos and {seeds} seed" + ("s" if seeds != 1 else "")
    yield f"Passing the gate with {study} (D above 0, {second}; Holm's strictest step):"
    for share in _SHARES:
        chance = design.passing(share * references.mean, share * within.mean if within else None)
        figures = f"{share * references.mean:.4f}"
        if within:
            figures += f", {share * within.mean:.4f} within"
        yield f"  {share:>4.0%} of the references' D ({figures}): {chance:.0%}"


if __name__ == "__main__":
    raise SystemExit(main())
