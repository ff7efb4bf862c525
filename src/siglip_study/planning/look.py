"""Look at a dataset before anything runs: what a study reads of it, and what it does not.

Run with:

    python -m siglip_study.planning.look config/mine.yaml

No clip is decoded. Where the manifest is made, its clips and durations are shown; before that those
of the labels, with the durations of some files' headers.
"""

from __future__ import annotations

import argparse
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.base.io import read_parquet
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.config.study import Config
from siglip_study.data.clips import ClipFile
from siglip_study.data.labels import Rejection
from siglip_study.data.layouts import scan_split
from siglip_study.data.manifest import MANIFEST_SCHEMA
from siglip_study.data.probing import container_seconds
from siglip_study.data.stills import is_still
from siglip_study.data.summary import Unused, summarise
from siglip_study.planning.estimate import Forecast
from siglip_study.study import Study

#: Files of a split whose headers are read.
SAMPLED_FILES = 50
#: Rejected examples, and names in a list.
EXAMPLES = 10
#: Cosine of two clips' pooled features, the mean of one split removed, from which they look alike.
ALIKE = 0.98
_COLUMNS = ("split", "id", "path", "captions", "group", "category")
_TIMES = ("start_s", "end_s", "duration_s")


@dataclass(frozen=True, eq=False)
class Found:
    """Clips as the study sees them now."""

    source: str
    #: split, id, path, captions, group, category, start_s, end_s; duration_s once it is known
    clips: pl.DataFrame
    unused: Unused


def find(config: Config) -> Found:
    """The manifest's clips, or those of the labels where there is no manifest yet.

    Raises:
        StudyError: the dataset is not there or cannot be read.
    """
    paths, root = Study(config).paths, config.data_root
    if paths.manifest.is_file() and paths.rejected.is_file():
        rejected = read_parquet(paths.rejected)
        unused = Unused.of((Rejection(*row) for row in rejected.iter_rows()), {})
        return Found(f"the manifest {paths.manifest}", read_parquet(paths.manifest), unused)
    if not root.is_dir():
        raise StudyError(f"data.root is {root}, which is no folder; expected a dataset.")
    rows: list[dict[str, Any]] = []
    kept: list[Rejection] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for split, folder in config.data.splits.items():
        scan = scan_split(config.data, root, folder)
        rows += [{"split": split, **vars(clip), "duration_s": None} for clip in scan.clips]
        kept += scan.rejected
        left_out += scan.left_out
    known = {name: MANIFEST_SCHEMA[name] for name in (*_COLUMNS, *_TIMES)}
    table = pl.DataFrame(rows, schema=known)
    unused = Unused.of(kept, left_out)
    return Found(f"the labels in {root}; no clip was opened yet", table, unused)


def lines(config: Config, every_duration: bool = False) -> Iterator[str]:
    """What is to be seen, line by line.

    Args:
        config: of the study.
        every_duration: read the header of every file, where there is no manifest yet.

    Raises:
        StudyError: as :func:`find`.
    """
    found = find(config)
    summary = summarise(found.clips, found.unused)
    yield f"From {found.source}."
    yield f"{summary.line('below')}."
    for split in found.clips["split"].unique(maintain_order=True).to_list():
        clips = found.clips.filter(split=split)
        yield ""
        yield f"{split}: {_counts(clips)}"
        yield f"  durations: {_durations(clips, config.data_root, every_duration)}"
        captions = list(chain.from_iterable(clips["captions"].to_list()))
        yield f"  captions: {_lengths(captions, config)}"
        yield f"  scripts: {_shares(captions, config.data.language)}"
    yield ""
    yield from _across(found.clips, "group", "source videos")
    yield from _across(found.clips, "id", "ids")
    yield from _near_duplicates(config, found.clips)
    yield from _examples(found.unused.rejected)


# ---- A split.


def _counts(clips: pl.DataFrame) -> str:
    n, groups = len(clips), clips["group"].n_unique()
    references = clips["captions"].list.len()
    named = clips["category"].drop_nulls()
    own = (clips["group"] == clips["id"]).all()
    alone = ", each clip its own: is data.group_key set?" if own else ""
    categories = f"{named.n_unique()} categories ({n - len(named)} clips without)"
    each = f"captions a clip: {references.sum() / max(n, 1):.3g}"
    return f"{n} clips of {groups} source videos{alone}; {each}; {categories}"


def _durations(clips: pl.DataFrame, root: Path, every: bool) -> str:
    known = clips["duration_s"].drop_nulls().to_list()
    told, unread = f"of all {len(known)} clips", 0
    if not known:
        step = 1 if every else max(1, -(-len(clips) // SAMPLED_FILES))
        seconds: dict[str, float | None] = {}
        for path, start, end in clips.select("path", "start_s", "end_s").gather_every(step).rows():
            if path not in seconds:
                seconds[path] = 0.0 if is_still(path) else _header_seconds(root / path)
            if (whole := seconds[path]) is None:
                unread += 1
                continue
            try:
                known.append(ClipFile(root / path, start, end).within(whole)[1])
            except ClipError:
                unread += 1
        told = f"by the headers of {len(known)} of {len(clips)} clips"
        told += f", {unread} of which cannot be read" if unread else ""
    if not known:
        return f"unknown, {told}"
    low, middle, high = np.quantile(known, [0, 0.5, 1])
    return f"{low:.3g} to {high:.3g} s, median {middle:.3g} s, {told}"


def _header_seconds(path: Path) -> float | None:
    try:
        return container_seconds(path)
    except ClipError:
        return None


def _lengths(captions: Sequence[str], config: Config) -> str:
    tokenizer = Forecast(config).tokenizer
    if tokenizer is None:
        lengths, unit = [len(text) for text in captions], "characters (the tokenizer is not here)"
    else:
        rows = tokenizer(list(captions), add_special_tokens=False)["input_ids"]
        lengths, unit = [len(row) + 1 for row in rows], "tokens with the end"
    middle, most = (int(n) for n in np.quantile(lengths, [0.5, 1], method="nearest"))
    told = f"{len(captions)}, median {middle} and at most {most} {unit}"
    if tokenizer is None:
        return told
    budgets = {
        "training.max_target_tokens": config.training.max_target_tokens,
        "captions.max_new_tokens": config.captions.max_new_tokens,
    }
    for key, limit in budgets.items():
        if over := sum(n > limit for n in lengths):
            told += f"; {over} over {key} {limit}"
    return told


#: First word of a letter's Unicode name → what it is called here.
_SCRIPTS = {"HANGUL": "Hangul", "CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}


def script_of(text: str) -> str:
    """The script of most letters of a text, such as "Hangul" or "Latin"; "none" without letters."""
    names = (unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    found = Counter(_SCRIPTS.get(name, name.capitalize()) for name in names)
    # Japanese is written in both; a little Kana tells it from Chinese.
    return (
        "Kana"
        if found["Kana"] and found["Han"]
        else max(found, key=found.__getitem__, default="none")
    )


#: Script of most captions in a language; None: any.
_EXPECTED = {"ko": "Hangul", "en": "Latin", "other": None}


def _shares(captions: Iterable[str], language: str) -> str:
    found = Counter(map(script_of, captions))
    told = ", ".join(f"{name} {n / found.total():.0%}" for name, n in found.most_common(5))
    expected = _EXPECTED[language]
    if expected is not None and found[expected] < found.total() / 2:
        told += f"; data.language is {language}: expected most in {expected}"
    return told


# ---- What would leak between splits, and what is left out.


def _across(clips: pl.DataFrame, column: str, what: str) -> Iterator[str]:
    homes: dict[str, set[str]] = defaultdict(set)
    for name, split in clips.select(column, "split").iter_rows():
        homes[name].add(split)
    shared = sorted(name for name, splits in homes.items() if len(splits) > 1)
    if shared:
        more = ", …" if shared[EXAMPLES:] else ""
        yield f"{len(shared)} {what} in more than one split: {', '.join(shared[:EXAMPLES])}{more}"
    else:
        yield f"No {what} in more than one split."


def _near_duplicates(config: Config, clips: pl.DataFrame) -> Iterator[str]:
    """Clips that look like one of another split, by the features of the study's encoder."""
    study = Study(config)
    splits = list(clips["split"].unique(maintain_order=True))
    folders = {split: study.paths.features(study.encoder_slug, split) for split in splits}
    if not all((folder / "index.json").is_file() for folder in folders.values()):
        yield "Near-duplicates across splits: known once the encoder's features are made."
        return
    from siglip_study.scoring.baselines import nearest, pooled_features

    ids = {split: clips.filter(split=split)["id"].to_list() for split in splits}
    pooled = {split: pooled_features(folders[split], ids[split]) for split in splits}
    pairs = []
    for early, late in combinations(splits, 2):
        best, cosines = nearest(pooled[late], pooled[early])
        pairs += [
            (float(cosine), f"{late} {clip} and {early} {ids[early][i]} ({cosine:.3f})")
            for clip, i, cosine in zip(ids[late], best, cosines, strict=True)
            if cosine >= ALIKE
        ]
    if pairs:
        told = "; ".join(text for _, text in sorted(pairs, reverse=True)[:EXAMPLES])
        yield f"{len(pairs)} clips look like one of another split (cosine ≥ {ALIKE}): {told}"
    else:
        yield f"No clip looks like one of another split (cosine ≥ {ALIKE})."


def _examples(rejected: Sequence[Rejection]) -> Iterator[str]:
    """Examples of each reason in turn, so that a frequent one does not hide the others."""
    by_kind: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in rejected:
        by_kind[rejection.kind].append(rejection)
    turns = chain.from_iterable(zip_longest(*by_kind.values()))
    shown = [rejection for rejection in turns if rejection is not None][:EXAMPLES]
    if shown:
        yield f"Rejected, {len(shown)} of {len(rejected)}:"
        yield from (f"  {r.id} ({r.path}): {r.reason}" for r in shown)


def main(arguments: list[str] | None = None) -> int:
    """Print the lines; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.planning.look",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--durations", choices=("some", "all"), default="some", help="of how many files"
    )
    given = parser.parse_args(arguments)

    def work() -> None:
        for line in lines(load(given.config), given.durations == "all"):
            print(line, flush=True)

    return exit_status(work)


if __name__ == "__main__":
    raise SystemExit(main())
