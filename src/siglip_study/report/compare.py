"""Two finished studies of the same clips, held against each other: is B better than A?

Run with::

    python -m siglip_study.report.compare results/a results/b > comparison.md

Both studies' projectors are ranked together, by the procedure that ranks one study's: the same
tests, Holm over all pairs of both. Studies whose scores cannot be compared are refused, with every
reason. Figures from elsewhere stand beside a study's in ``siglip_study.report.beside``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_parquet
from siglip_study.base.jobs import exit_status
from siglip_study.ranking.from_scores import seen_projectors
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.ranking.pairs import PairTest
from siglip_study.ranking.procedure import Entry, Ranking, rank_study, read_ranking
from siglip_study.ranking.scorer_check import read_check
from siglip_study.ranking.seen import reference_figures
from siglip_study.ranking.selection import read_selection
from siglip_study.report.language import LANGUAGES, Language
from siglip_study.report.results import read_answer
from siglip_study.report.tables import read_table
from siglip_study.report.text_tables import code_span, markdown, table_cell
from siglip_study.report.wording.claims import better_study
from siglip_study.report.wording.conclusion import answer
from siglip_study.report.wording.gate import gate_name
from siglip_study.report.words import p_value, rank_interval, significant, span
from siglip_study.scoring.score_files import read_scores
from siglip_study.study.paths import Paths

#: What makes a held-out clip the same clip.
_SAME_CLIP = ("sha256", "start_s", "end_s", "group", "category")
#: Sections of the config on which no result depends.
_NO_RESULT = ("output_dir", "report", "runtime")
#: The scorer's rounding on another device, in standard deviations of M.
_ROUNDING = 0.05


@dataclass(frozen=True)
class FinishedStudy:
    """A study under a short name.

    Attributes:
        name: A or B.
        paths: of its results.
        config: every key, as plain values.
        runs: projector → its reported runs.
        ranking: its own.
        human: scores of the human captions: metrics, and a row a clip in order of ids.
        clips: the reported clips of the manifest, in the same order.
    """

    name: str
    paths: Paths
    config: dict[str, Any]
    runs: dict[str, list[str]]
    ranking: Ranking
    human: tuple[dict[str, Any], pl.DataFrame]
    clips: pl.DataFrame

    @classmethod
    def read(cls, name: str, results: Path) -> FinishedStudy:
        """Read one; StudyError: it is not finished, or its page is of an older version."""
        paths = Paths(results)
        config = read_answer(paths)["config"]
        runs: dict[str, list[str]] = {}
        for row in read_table(results, "runs"):
            runs.setdefault(row["projector"], []).append(row["cell"])
        human = read_scores(paths.run("references"))
        clips = read_parquet(paths.manifest).filter(pl.col("id").is_in(human[1]["id"].to_list()))
        ranking = read_ranking(paths.ranking)
        return cls(name, paths, config, runs, ranking, human, clips.sort("id"))

    def entries(self) -> dict[str, Entry]:
        """Its projectors as the ranking takes them, named after study and projector."""
        folders = {
            label: [self.paths.run(run) for run in runs] for label, runs in self.runs.items()
        }
        selection = read_selection(self.paths.selection)
        seen = seen_projectors(folders, self.paths.run("references"), selection)
        return {
            f"{self.name}:{label}": replace(own.entry, losses=None) for label, own in seen.items()
        }

    @property
    def best(self) -> str | None:
        """The grounded projector of the highest mean M."""
        guess = self.ranking.answer.guess
        return None if guess is None else f"{self.name}:{guess}"


def obstacles(a: FinishedStudy, b: FinishedStudy) -> list[str]:
    """Why scores of two studies cannot be compared, a clause each; none: they can."""
    own, other = a.clips["id"].to_list(), b.clips["id"].to_list()
    if own != other:
        alone = sorted({*own} ^ {*other})
        return [f"{len(alone)} held-out clips are in one of them alone, such as '{alone[0]}'"]
    found = []
    for what, columns in (("content or source", _SAME_CLIP), ("captions", ("captions",))):
        same = (a.clips[column].eq_missing(b.clips[column]) for column in columns)
        differ = [clip for clip, *all_same in zip(own, *same, strict=True) if not all(all_same)]
        if differ:
            found.append(f"{len(differ)} held-out clips have other {what}, such as '{differ[0]}'")
    if found:
        return found
    versions = [study.human[0]["metrics"][MARGIN]["version"] for study in (a, b)]
    if versions[0] != versions[1]:
        found.append(f"{MARGIN} is of version {versions[0]} in A and {versions[1]} in B")
    gap = (a.human[1][MARGIN] - b.human[1][MARGIN]).abs().max()
    if not isinstance(gap, float) or gap > _ROUNDING:
        judges = [
            (study.config["scorer"]["model"], study.config["scorer"]["frames"]) for study in (a, b)
        ]
        told = " and ".join(f"{model} on {frames} frames" for model, frames in judges)
        found.append(f"their scorers judge the human captions otherwise ({told})")
    return found


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key → its values in both configs, where they differ; None: absent."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**a, **b}:
        own, other = a.get(key), b.get(key)
        if isinstance(own, Mapping) and isinstance(other, Mapping):
            found |= {f"{key}.{k}": v for k, v in differing_keys(own, other).items()}
        elif own != other:
            found[str(key)] = own, other
    return found


def rank_together(a: FinishedStudy, b: FinishedStudy) -> Ranking:
    """The projectors of both in one ranking, by A's thresholds.

    Raises:
        StudyError: they cannot be compared, or have another number of report seeds.
    """
    if reasons := obstacles(a, b):
        raise StudyError(
            f"{a.paths.root} and {b.paths.root} cannot be compared: {'; '.join(reasons)}; expected "
            "two studies of the same held-out clips, captions and scorer."
        )
    return rank_study(
        {**a.entries(), **b.entries()},
        a.human[1]["group"].to_list(),
        reference_figures(a.paths.run("references")),
        read_check(a.paths.scorer_check).deciding,
        thresholds=GateThresholds(**a.config["gate"]),
    )


# ---- As a page.


def comparison(a: FinishedStudy, b: FinishedStudy, language: Language = "en") -> str:
    """Markdown: which is better, the keys that differ, all projectors, and the pairs across both.

    Raises:
        StudyError: as :func:`rank_together`.
    """
    ranking = rank_together(a, b)
    pairs = list(_across(ranking, a, b))
    test = next((test for test in pairs if {test.a, test.b} == {a.best, b.best}), None)
    said = answer(ranking) if ranking.answer.refusal else better_study(test, "B" if a.best else "A")
    keys = differing_keys(
        *({k: v for k, v in own.config.items() if k not in _NO_RESULT} for own in (a, b))
    )
    settings = [(code_span(key), *map(table_cell, values)) for key, values in keys.items()]
    same = [
        f"- {label}: the same {len(runs)} runs in both, by every key that they depend on"
        for label, runs in a.runs.items()
        if label in b.runs and {*runs} == {*b.runs[label]}
    ]
    ranked = [
        (
            own.projector,
            rank_interval(own.rank_low, own.rank_high, own.ranked, ranking.can_rank).within(
                language
            ),
            f"{significant(own.mean_margin)} {span(own.low, own.high)}",
            str(ranking.n_seeds),
            gate_name(own.gate.verdict).within(language),
        )
        for own in ranking.projectors
    ]
    tests = [
        (
            test.a,
            test.b,
            f"{significant(test.difference)} {span(test.low, test.high)}",
            p_value(test.p_holm),
            significant(test.smallest_detectable),
        )
        for test in pairs
    ]
    parts = [
        f"# {a.paths.root} (A) – {b.paths.root} (B)",
        said.within(language),
        markdown(("key", "A", "B"), settings) if settings else "",
        "\n".join(same),
        markdown(("projector", "rank", "M", "runs", "gate"), ranked),
        markdown(("A", "B", "A − B in M", "Holm's p", "could be missed"), tests) if tests else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _across(ranking: Ranking, a: FinishedStudy, b: FinishedStudy) -> Iterator[PairTest]:
    """The best of both first, then each projector of which they have other runs; A first."""
    other = (label for label, runs in a.runs.items() if {*runs} != {*b.runs.get(label, runs)})
    asked = [(f"A:{label}", f"B:{label}") for label in other]
    if a.best is not None and b.best is not None:
        asked.insert(0, (a.best, b.best))
    found = {frozenset((test.a, test.b)): test for test in ranking.pairs}
    for pair in dict.fromkeys(asked):
        test = found[frozenset(pair)]
        yield test if test.a == pair[0] else _turned(test)


def _turned(test: PairTest) -> PairTest:
    """b − a in place of a − b."""
    low, high, joint_low, joint_high = (
        None if end is None else -end
        for end in (test.high, test.low, test.joint_high, test.joint_low)
    )
    turned = replace(test, a=test.b, b=test.a, difference=-test.difference, low=low, high=high)
    return replace(turned, joint_low=joint_low, joint_high=joint_high)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m siglip_study.report.compare``; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.report.compare")
    parser.add_argument("a", type=Path, help="results of a finished study")
    parser.add_argument("b", type=Path, help="those of another")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    given = parser.parse_args(arguments)

    def compare() -> None:
        studies = FinishedStudy.read("A", given.a), FinishedStudy.read("B", given.b)
        sys.stdout.write(comparison(*studies, given.language))

    return exit_status(compare)


if __name__ == "__main__":
    raise SystemExit(main())
