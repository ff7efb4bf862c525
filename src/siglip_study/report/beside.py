"""Figures from elsewhere beside a study's own: what a notebook wrote, as rows that nothing ranks.

Run with::

    python -m siglip_study.report.beside results/ final_metrics.json training_log.csv > beside.md

A JSON file's figures are known by their keys (of nested ones ``a.b.0``), those of a CSV file, of
which the last row counts, by its head. A key that is named as a metric of the study is taken as
that; which others are what, only their author knows: ``--as distinct_ratio=final.diversity``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.metrics import METRICS
from siglip_study.report.comparisons import own_figures
from siglip_study.report.language import LANGUAGES, Language, Text, join, said, texts
from siglip_study.report.results import read_answer
from siglip_study.report.tables import read_table
from siglip_study.report.text_tables import code_span, markdown, table_cell
from siglip_study.report.words import direction, significant, value_range
from siglip_study.study.paths import Paths

SAID = texts("beside")
#: What a file of final figures never reaches.
_MOST_BYTES, _MOST_FIGURES = 2**20, 10_000
#: Keys that a sentence lists.
_LISTED = 20


@dataclass(frozen=True)
class Figures:
    """What is taken of a file.

    Attributes:
        file: its name.
        values: metric → figure, within the metric's range.
        left: keys of which nothing was taken.
    """

    file: str
    values: Mapping[str, float]
    left: tuple[str, ...]


def read_figures(path: Path) -> dict[str, Any]:
    """Key → what stands there, of a JSON file or of a CSV file's last row.

    Raises:
        StudyError: absent, neither of them, too large, or damaged.
    """
    if path.suffix not in (".json", ".csv"):
        raise StudyError(f"{path}: is neither .json nor .csv; expected a file of figures.")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from None
    if len(data) > _MOST_BYTES:
        raise StudyError(f"{path}: has over {_MOST_BYTES} bytes; expected final figures alone.")
    try:
        text = data.decode("utf-8-sig")
        found = _once(_leaves(_json(text)) if path.suffix == ".json" else _last_row(text))
    except (ValueError, RecursionError, csv.Error) as error:
        raise StudyError(f"{path}: not {path.suffix[1:].upper()} ({error}).") from None
    if not 0 < len(found) <= _MOST_FIGURES:
        raise StudyError(f"{path}: has {len(found)} keys; expected 1 to {_MOST_FIGURES}.")
    return found


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key → value, of what is nested."""
    if not isinstance(value, dict | list):
        yield key, value
        return
    for name, own in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(own, f"{key}.{name}" if key else str(name))


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"it has the key '{key}' twice")
        found[key] = value
    return found


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once)


def _last_row(text: str) -> Iterable[tuple[str, str]]:
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(map(str.strip, row))]
    if len(rows) < 2:
        raise ValueError("it has no row under its head")
    head, last = [name.strip() for name in rows[0]], rows[-1]
    if len(head) != len(last):
        raise ValueError(f"its last row has {len(last)} cells for {len(head)} names")
    return zip(head, last, strict=True)


def take(path: Path, found: Mapping[str, Any], named: Mapping[str, str]) -> Figures:
    """The figures of a file that are a metric's: by ``named``, metric → key, where the file has
    that key, else by its name.

    Raises:
        StudyError: one is no number, or one that the metric cannot have.
    """
    given = {metric: key for metric, key in named.items() if key in found}
    same = {name: name for name in METRICS if found.get(name) not in (None, "")}
    keys = same | given
    values = {metric: _figure(path, key, found[key], metric) for metric, key in keys.items()}
    return Figures(path.name, values, tuple(key for key in found if key not in keys.values()))


def _figure(path: Path, key: str, value: Any, metric: str) -> float:
    own = METRICS[metric]
    try:
        figure = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        figure = math.nan
    low, high = own.min_value, own.max_value
    ends = (-math.inf if low is None else low, math.inf if high is None else high)
    if not (math.isfinite(figure) and ends[0] <= figure <= ends[1]):
        raise StudyError(
            f"{path}: {_short(key)} is {_short(value)}; expected {metric}, a number from "
            f"{value_range(low, high).en}."
        )
    return figure


def _short(value: Any) -> str:
    """A key or value as a sentence holds it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def named_keys(given: Sequence[str]) -> dict[str, str]:
    """``METRIC=KEY`` of the command line as metric → key.

    Raises:
        StudyError: no such metric, one twice, or no ``=``.
    """
    named: dict[str, str] = {}
    for words in given:
        metric, _, key = words.partition("=")
        if metric not in METRICS or not key or metric in named:
            why = "is given twice" if metric in named else "is no metric and key"
            raise StudyError(
                f"--as {words}: {why}; expected METRIC=KEY, each metric once, of "
                f"{', '.join(METRICS)}."
            )
        named[metric] = key
    return named


def take_figures(paths: Sequence[Path], named: Mapping[str, str]) -> list[Figures]:
    """What is taken of each file.

    Raises:
        StudyError: as :func:`read_figures` and :func:`take`, a key of ``named`` is in no file, or
            nothing is taken of one.
    """
    found = [(path, read_figures(path)) for path in paths]
    files = " and ".join(map(str, paths))
    for metric, key in named.items():
        if not any(key in figures for _, figures in found):
            known = dict.fromkeys(key for _, figures in found for key in figures)
            raise StudyError(
                f"--as {metric}={key}: {files} has no such key; expected one of "
                f"{_listed([*known]).en}."
            )
    taken = [take(path, figures, named) for path, figures in found]
    for path, own in zip(paths, taken, strict=True):
        if not own.values:
            raise StudyError(
                f"{path}: none of its keys is named as a metric; say which is which, as in "
                f"--as distinct_ratio=<key>, of {_listed(own.left).en}."
            )
    return taken


def _listed(keys: Sequence[str]) -> Text:
    shown = Text.same(", ".join(map(code_span, keys[:_LISTED])))
    more = len(keys) - _LISTED
    return said(SAID, "more", keys=shown, n=more) if more > 0 else shown


# ---- As a page.


def beside(results: Path, references: Sequence[Figures], language: Language = "en") -> str:
    """Markdown: the figures from elsewhere above those of the human captions and the projectors.

    Raises:
        StudyError: the study is not finished.
    """
    read_answer(Paths(results))
    metrics = [name for name in METRICS if any(name in own.values for own in references)]
    files = ", ".join(code_span(own.file) for own in references)
    scales = [
        join(", ", [direction(own.higher_is_better), value_range(own.min_value, own.max_value)])
        for own in map(METRICS.__getitem__, metrics)
    ]
    rows = [["", "", *(scale.within(language) for scale in scales)]]
    for own in references:
        values = [significant(own.values.get(name)) for name in metrics]
        rows.append([code_span(own.file), SAID["elsewhere"].within(language), *values])
    for row in own_figures(read_table(results, "cells"), metrics):
        values = [significant(row[name]) for name in metrics]
        rows.append(
            [table_cell(row["label"].within(language)), SAID["here"].within(language), *values]
        )
    study = code_span(str(results))
    parts = [
        "# " + said(SAID, "title", files=files, study=study).within(language),
        SAID["warning"].within(language),
        markdown(("", "", *metrics), rows),
        *(
            said(SAID, "left", file=code_span(own.file), keys=_listed(own.left)).within(language)
            for own in references
            if own.left
        ),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m siglip_study.report.beside``; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.report.beside")
    parser.add_argument("results", type=Path, help="of a finished study")
    parser.add_argument("files", type=Path, nargs="+", help="JSON or CSV with figures")
    parser.add_argument(
        "--as",
        dest="named",
        action="append",
        default=[],
        metavar="METRIC=KEY",
        help="a metric of the study, and the key under which a file has it",
    )
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    given = parser.parse_args(arguments)

    def write() -> None:
        references = take_figures(given.files, named_keys(given.named))
        sys.stdout.write(beside(given.results, references, given.language))

    return exit_status(write)


if __name__ == "__main__":
    raise SystemExit(main())
