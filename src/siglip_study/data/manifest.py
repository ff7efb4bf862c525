"""A dataset folder → the manifest of usable clips and the list of rejected ones."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data.clips import ClipFile
from siglip_study.data.labels import ListedClip, Rejection
from siglip_study.data.layouts import scan_split
from siglip_study.data.stills import is_still
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
REJECTED_SCHEMA: dict[str, pl.DataType] = {name: pl.String() for name in ("id", "path", "reason")}


# ---- The same file under several ids: not trained on and reported, nor counted twice.

#: A file in two splits stays in the later one: clips that are reported are dearer.
_DEARER = ("train", "selection", "report", "held_out")


def settle_copies(rows: list[dict[str, Any]], rejected: list[Rejection]) -> list[dict[str, Any]]:
    """Rows of the manifest without files that another split holds, copies being of one group.

    Files are the same if their SHA-256 is. A copy in another split is rejected there, as it would
    be trained or tuned on and then reported. Copies within a split stay, each with its own caption,
    as clips of one source video: their groups are joined under the first name.
    ``rejected`` gains a row for each copy that is left out; ``rows`` are left as they are.
    """
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["sha256"]].append(row)
    dropped: set[str] = set()
    joined: dict[str, str] = {}

    def name(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for same in by_file.values():
        home = max((row["split"] for row in same), key=_DEARER.index)
        kept = [row for row in same if row["split"] == home]
        for row in same:
            if row["split"] != home:
                reason = f"copy: the same file as '{kept[0]['id']}' in the split {home}"
                rejected.append(Rejection(row["id"], row["path"], reason))
                dropped.add(row["id"])
        first, *others = sorted({name(row["group"]) for row in kept})
        joined.update(dict.fromkeys(others, first))
    return [{**row, "group": name(row["group"])} for row in rows if row["id"] not in dropped]


# ---- The tables.


@dataclass(frozen=True, eq=False)
class BuiltManifest:
    """The usable clips of a dataset and what was left out."""

    #: ``MANIFEST_SCHEMA``, in the order of ``data.splits`` and then of ids
    clips: pl.DataFrame
    #: ``REJECTED_SCHEMA``, by path
    rejected: pl.DataFrame
    #: (key, what stood there) → labels whose value under an optional key was of no use
    left_out: Counter[tuple[str, str]]


def build_manifest(root: Path, data: DataConfig, sampled: Sequence[int]) -> BuiltManifest:
    """Read labels, open and decode every clip, and say of each one that is left out why.

    An id that occurs twice, within a split or across splits, is rejected everywhere: there is no
    telling which label belongs to it. The same file under several ids: see :func:`settle_copies`.
    ``sampled`` are numbers of frames a clip on which ways of reading it are compared. Paths are
    relative to ``root``.

    Raises:
        StudyError: a folder is missing, a split is left without a clip, or a source video has
            clips in two splits.
    """
    if not root.is_dir():
        raise StudyError(f"data.root is {root}, which is no folder; expected a dataset.")
    rejected: list[Rejection] = []
    listed: list[tuple[str, ListedClip]] = []
    left_out: Counter[tuple[str, str]] = Counter()
    for split, folder in data.splits.items():
        scan = scan_split(data, root, folder)
        rejected += scan.rejected
        left_out += scan.left_out
        listed += [(split, clip) for clip in sorted(scan.clips, key=lambda clip: clip.id)]
    listed = _without_shared_ids(listed, rejected)
    files = [ClipFile(root / clip.path, clip.start_s, clip.end_s) for _, clip in listed]
    answers = vet_clips(files, data.decoder, sampled, data.workers)
    rows: list[dict[str, Any]] = []
    for (home, clip), found in zip(listed, answers, strict=True):
        reason = found.get("reason") or (None if is_still(clip.path) else _too_short(found, data))
        if reason:
            rejected.append(Rejection(clip.id, clip.path, reason))
        else:
            rows.append({**vars(clip), "split": home, "captions": list(clip.captions), **found})
    rows = settle_copies(rows, rejected)
    for split, folder in data.splits.items():
        if all(row["split"] != split for row in rows):
            examples = "; ".join(f"{r.path}: {r.reason}" for r in rejected[:2])
            why = f", {len(rejected)} rejected in all ({examples})" if rejected else ""
            raise StudyError(
                f"{root / folder}: no usable clip for split '{split}'{why}; expected at least one."
            )
    # Clips of one source video look alike: trained on and reported, they would leak.
    homes: dict[str, str] = {}
    for row in rows:
        other = homes.setdefault(row["group"], row["split"])
        if other != row["split"]:
            raise StudyError(
                f"source video '{row['group']}' has clips in the splits {other} and {row['split']} "
                f"(one is '{row['id']}'); expected each source in one split: move its clips, or "
                "set data.group_key to the key that names the source."
            )
    manifest = pl.DataFrame(rows, schema=MANIFEST_SCHEMA)
    rejected.sort(key=lambda r: (r.path, r.id))
    table = pl.DataFrame([vars(r) for r in rejected], schema=REJECTED_SCHEMA)
    return BuiltManifest(manifest, table, left_out)


def _without_shared_ids(
    listed: list[tuple[str, ListedClip]], rejected: list[Rejection]
) -> list[tuple[str, ListedClip]]:
    by_id: dict[str, list[tuple[str, ListedClip]]] = defaultdict(list)
    for split, clip in listed:
        by_id[clip.id].append((split, clip))
    for same in by_id.values():
        if len(same) > 1:
            reason = f"duplicate id: in the splits {', '.join(split for split, _ in same)}"
            rejected += [Rejection(clip.id, clip.path, reason) for _, clip in same]
    return [same[0] for same in by_id.values() if len(same) == 1]


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
