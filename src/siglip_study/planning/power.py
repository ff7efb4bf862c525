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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status

if TYPE_CHECKING:
    from siglip_study.planning.power_design import Assumptions
    from siglip_study.ranking.within import WithinSpread

T = TypeVar("T")

#: A difference to ask for where none is given, as a share of the references' D.
ASKED = 0.1
GROUPS = (30, 60, 97, 200, 400, 1000)
#: Projectors whose chance to pass the gate is told, by their share of the references' D.
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
WITHIN = "grounding_margin_within"


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
    if path.suffix == ".parquet":
        return _from_clips(path)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected the references' scores.") from None
    except ValueError as error:
        raise StudyError(f"{path}: not readable as JSON ({error}).") from None
    if not isinstance(body, dict):
        raise StudyError(f"{path}: holds a {type(body).__name__}; expected an object.")
    if body.get("schema") == "scorer_check/1":
        # The split whose figures are published decides.
        check = body["splits"][body.get("decides", "report")]
    elif body.get("schema") == "ranking/1":
        check = body["scorer"]
    else:
        raise StudyError(
            f"{path}: schema {body.get('schema')!r}; expected scorer_check/1, ranking/1, or a "
            "Parquet file of the references' clips."
        )
    groups = int(check["n_groups"])
    if check["low"] is None or groups < 2:
        raise StudyError(f"{path}: {groups} group of clips; expected at least 2.")
    from siglip_study.ranking.variance import t_quantile
    from siglip_study.ranking.within import WithinSpread

    t = float(t_quantile(1 - float(body.get("alpha", 0.05)) / 2, groups - 1))
    sd = (check["high"] - check["low"]) / 2 / t * math.sqrt(groups)
    told = check.get("within")
    within = None if told is None else WithinSpread(**told)
    return ReferenceScores(float(check["mean_margin"]), sd, groups, str(path), within)


def _from_clips(path: Path) -> ReferenceScores:
    import polars as pl

    from siglip_study.ranking.scores import group_means
    from siglip_study.ranking.within import known_group_means, spread_within

    try:
        columns = ["group", "grounding_margin"]
        if WITHIN in pl.read_parquet_schema(path):
            columns.append(WITHIN)
        clips = pl.read_parquet(path, columns=columns)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; expected the references' clips.") from None
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.ComputeError) as error:
        raise StudyError(f"{path}: {error}; expected columns group, grounding_margin.") from None
    groups = clips["group"].to_list()
    _, by_group = group_means(clips["grounding_margin"].to_numpy(), groups)
    if len(by_group) < 2:
        raise StudyError(f"{path}: {len(by_group)} group of clips; expected at least 2.")
    within = None
    if WITHIN in columns:
        known = clips[WITHIN].cast(pl.Float64).fill_null(math.nan).to_numpy()
        within = spread_within(by_group, known_group_means(known, groups))
    return ReferenceScores(
        float(by_group.mean()), float(by_group.std(ddof=1)), len(by_group), str(path), within
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.planning.power", description=__doc__
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
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
    return parser


def report(given: argparse.Namespace) -> str:
    """The text that the command prints.

    Raises:
        StudyError: neither references nor an SD, figures out of range, unreadable files.
    """
    from siglip_study.planning.power_design import Design, from_references, power_table

    seeds, projectors, alpha, path = given.seeds, given.projectors, given.alpha, given.references
    wanted = True
    if given.config is not None:
        from siglip_study.config import load
        from siglip_study.study.paths import Paths

        config = load(given.config)
        seeds = _either(seeds, len(config.seeds.report))
        projectors = _either(projectors, len(config.projectors))
        alpha = _either(alpha, config.gate.alpha)
        wanted = config.gate.within_category
        if path is None and given.sd is None:
            path = Paths(config.output_dir).scorer_check
    seeds, projectors, alpha = _either(seeds, 3), _either(projectors, 4), _either(alpha, 0.05)
    if seeds < 1:
        raise StudyError(f"power: {seeds} seeds; expected at least 1.")
    references = read_references(path) if path is not None else None
    named = {
        "sd": given.sd,
        "seed_sd": given.seed_sd,
        "between_projectors": given.between_projectors,
        "between_seeds": given.between_seeds,
    }
    named = {key: value for key, value in named.items() if value is not None}
    if references is None and given.sd is None:
        raise StudyError("power: no references and no --sd; expected a config, a file or an SD.")
    assumed: Assumptions = from_references(references.sd if references else given.sd, **named)
    groups = _either(given.groups, references.n_groups if references else 97)
    difference = given.difference
    if difference is None:
        difference = ASKED * references.mean if references else 0.5 * assumed.sd
    table = power_table(assumed, difference, projectors, sorted({*GROUPS, groups}), alpha=alpha)
    pairs = projectors * (projectors - 1) // 2
    lines = []
    if references:
        lines.append(
            f"References ({references.source}): D {references.mean:.4f}, SD {references.sd:.4f} "
            f"over {references.n_groups} source videos."
        )
    lines += [
        f"Assumed: SD of a run's D over source videos {assumed.sd:.4f}"
        + ("" if given.sd else " (1.3 × the references', as in the demo)")
        + f"; SD of a run's mean over seeds {assumed.seed_sd:.4f}"
        + ("" if given.seed_sd is not None else " (.35 of that, as in the demo)")
        + f"; correlation over clips {assumed.between_projectors:g} between projectors, "
        f"{assumed.between_seeds:g} between seeds of one.",
        f"{projectors} projectors, {pairs} pairs, Holm at {alpha:g}, power 80 %.",
        "",
        "Smallest difference in D that would be found:",
        "source videos" + "".join(f"{f'S = {s}':>12}" for s in table.seeds),
    ]
    for g in table.groups:
        cells = (table.detectable[g, s] for s in table.seeds)
        lines.append(
            f"{g:>13}" + "".join(f"{'no ranks' if d is None else f'{d:.4f}':>12}" for d in cells)
        )
    lines += ["", f"Source videos needed to find a difference of {difference:.4f} in D:"]
    for s in table.seeds:
        needed = table.needed[s]
        told = f"{needed:,}" if needed is not None else "none suffices: the seeds alone hide it"
        lines.append(f"  S = {s}: " + ("no ranks with one seed" if s == 1 else told))
    if seeds < 2:
        lines += ["", "This study has one seed: no ranks, whatever the number of clips."]
    else:
        own = Design(assumed, groups, seeds, projectors, alpha)
        lines += [
            "",
            f"This study ({groups} source videos, {seeds} seeds): smallest detectable difference "
            f"{own.detectable():.4f}; power for {difference:.4f} is {own.power(difference):.0%}.",
        ]
    if references:
        lines += ["", *_passing(references, assumed, groups, seeds, projectors, alpha, wanted)]
    return "\n".join(lines)


def _either(given: T | None, otherwise: T) -> T:
    """What was given, 0 too: it is for the checks to refuse."""
    return otherwise if given is None else given


def _passing(
    references: ReferenceScores,
    assumed: Assumptions,
    groups: int,
    seeds: int,
    projectors: int,
    alpha: float,
    wanted: bool,
) -> list[str]:
    """How probably projectors of a share of the references' D pass the gate, a line each."""
    from siglip_study.planning.gate_power import GateDesign, asked_within

    told = references.within if asked_within(references.within, alpha, wanted) else None
    design = GateDesign(assumed, told, references.sd, groups, seeds, projectors, alpha)
    if told:
        second = f"D within category above 0 too, the references' being {told.mean:.4f}"
    elif references.within is None and wanted:
        second = "D within category is unknown here and not counted"
    else:
        second = "D within category is not asked for"
    lines = [
        f"Passing the gate with {groups} source videos and {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'} (D above 0, {second}; Holm's strictest step):"
    ]
    for share in SHARES:
        chance = design.passing(share * references.mean, share * told.mean if told else None)
        figures = f"{share * references.mean:.4f}"
        if told:
            figures += f", {share * told.mean:.4f} within"
        lines.append(f"  {share:>4.0%} of the references' D ({figures}): {chance:.0%}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 on a user's mistake."""
    given = _parser().parse_args(arguments)
    return exit_status(lambda: print(report(given)))


if __name__ == "__main__":
    raise SystemExit(main())
