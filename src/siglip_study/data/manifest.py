"""A dataset folder → the usable clips of each split, what is not used, and halves of a split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data.clips import ClipFile
from siglip_study.data.labels import Rejection
from siglip_study.data.listing import DEARER, list_dataset, require_apart
from siglip_study.data.stills import is_still
from siglip_study.data.summary import Unused
from siglip_study.data.vetting_processes import vet_clips

MANIFEST_SCHEMA: dict[str, pl.DataType] = {
    **{name: pl.String() for name in ("id", "split", "group", "category", "path")},
    "captions": pl.List(pl.String()),
    **{name: pl.Float64() for name in ("duration_s", "fps")},
    **{name: pl.Int64() for name in ("n_frames", "width", "height")},
    "sha256": pl.String(),
    # Of a segment, in seconds of what a player shows; null: from the file's start, or to its end.
    **{name: pl.Float64() for name in ("start_s", "end_s")},
    "reading": pl.String(),
}


# ---- The same file under several ids: not trained on and reported, nor counted twice.


def settle_copies(
    rows: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[tuple[str, Rejection]]]:
    """Rows of the manifest without files that another split holds, copies being of one group.

    Files are the same if their SHA-256 is. A copy in another split is rejected there, as it would
    be trained or tuned on and then reported. Copies within a split stay, each with its own caption,
    as clips of one source video: their groups are joined under the first name. ``rows`` are left
    as they are.

    Returns:
        What is kept, and (split, rejection) of each copy that is left out.
    """
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["sha256"]].append(row)
    dropped: dict[str, tuple[str, Rejection]] = {}
    joined: dict[str, str] = {}

    def name(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for same in by_file.values():
        home = max((row["split"] for row in same), key=DEARER.index)
        kept = [row for row in same if row["split"] == home]
        for row in same:
            if row["split"] != home:
                reason = f"copy: the same file as '{kept[0]['id']}' in the split {home}"
                dropped[row["id"]] = row["split"], Rejection(row["id"], row["path"], reason)
        first, *others = sorted({name(row["group"]) for row in kept})
        joined.update(dict.fromkeys(others, first))
    kept = [{**row, "group": name(row["group"])} for row in rows if row["id"] not in dropped]
    return kept, list(dropped.values())


# ---- The tables.


def vet_split(
    root: Path, data: DataConfig, split: str, sampled: Sequence[int]
) -> tuple[pl.DataFrame, Unused]:
    """Open and decode every clip of a split, and say of each one that is left out why.

    Clips of other splits are opened where one of these depends on them (:mod:`.listing`), so that a
    split is the same whether or not the others are checked with it. The same file under several
    ids: see :func:`settle_copies`. ``sampled`` are numbers of frames a clip on which ways of
    reading it are compared. Paths are relative to ``root``.

    Returns:
        The usable clips (``MANIFEST_SCHEMA``) by id, and what is not used.

    Raises:
        StudyError: a folder is missing, the split is left without a clip, or a source video has
            clips in two splits.
    """
    listing, folders = list_dataset(data, root)[split], dict[str, str](data.splits.items())
    listed = [*((split, clip) for clip in listing.clips), *listing.related]
    files = [ClipFile(root / clip.path, clip.start_s, clip.end_s) for _, clip in listed]
    answers = vet_clips(files, data.decoder, sampled, data.workers)
    rejected, rows = list(listing.rejected), list[dict[str, Any]]()
    for (home, clip), found in zip(listed, answers, strict=True):
        reason = found.get("reason") or (None if is_still(clip.path) else _too_short(found, data))
        if not reason:
            rows.append({**vars(clip), "split": home, "captions": list(clip.captions), **found})
        elif home == split:
            rejected.append(Rejection(clip.id, clip.path, reason))
    rows, copies = settle_copies(rows)
    rejected += [own for home, own in copies if home == split]
    if all(row["split"] != split for row in rows):
        examples = "; ".join(f"{r.path}: {r.reason}" for r in rejected[:2])
        why = f", {len(rejected)} rejected ({examples})" if rejected else ""
        raise StudyError(
            f"{root / folders[split]}: no usable clip for split '{split}'{why}; expected at "
            "least one."
        )
    require_apart((row["split"], row["group"], row["id"]) for row in rows)
    own = [row for row in rows if row["split"] == split]
    return pl.DataFrame(own, schema=MANIFEST_SCHEMA), Unused.of(rejected, listing.left_out)


def _too_short(found: Mapping[str, Any], data: DataConfig) -> str | None:
    seconds, frames = found["duration_s"], found["n_frames"]
    if seconds < data.min_duration_s:
        return f"too short: {seconds:.3g} s; expected at least {data.min_duration_s:g} s"
    if frames < data.min_frames:
        return f"too short: {frames} frames; expected at least {data.min_frames}"
    return None


# ---- Halves of a held-out split.


def halve_split(manifest: pl.DataFrame) -> pl.DataFrame:
    """Divide the split ``held_out`` into ``selection`` and ``report``, never within a group.

    Groups stand in the order of the SHA-256 of their names, so that neither file order nor chance
    decides; the first half of the clips, to whole groups, becomes ``selection``.

    Raises:
        StudyError: the split has fewer than two groups.
    """
    is_held = pl.col("split") == "held_out"
    sizes = dict(manifest.filter(is_held).group_by("group").len().iter_rows())
    if len(sizes) < 2:
        raise StudyError(
            f"data.splits.held_out: found {len(sizes)} group(s) of clips; expected at least 2, "
            "one for selection and one for the report."
        )
    order = sorted(sizes, key=lambda group: hashlib.sha256(group.encode()).hexdigest())
    chosen: list[str] = []
    clips, half = 0, sum(sizes.values()) / 2
    for group in order[:-1]:
        # A group is taken while its middle lies in the first half.
        if chosen and clips + sizes[group] / 2 > half:
            break
        chosen.append(group)
        clips += sizes[group]
    in_first = is_held & pl.col("group").is_in(chosen)
    named = pl.when(in_first).then(pl.lit("selection")).when(is_held).then(pl.lit("report"))
    halved = manifest.with_columns(named.otherwise(pl.col("split")).alias("split"))
    rank = pl.col("split").replace_strict({"train": 0, "selection": 1, "report": 2})
    return halved.sort(rank, "id")
