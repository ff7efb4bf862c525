"""What each split of a dataset lists, and which clips of other splits bear on it.

No clip is opened. A split is checked by a job of its own, which must know what another split does
to it: an id that both use, a source video of which both have clips, a file that both hold. All of
that is told from names, labels and the content of files of equal size.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.base.io import file_size, sampled_digest
from siglip_study.config.study import DataConfig
from siglip_study.data.labels import ListedClip, Rejection, Scan
from siglip_study.data.layouts import scan_split


@dataclass(frozen=True)
class SplitListing:
    """The clips of a split by id, and what is to be known of the others."""

    clips: tuple[ListedClip, ...]
    #: (split, clip) of other splits that share a source video or a file with one of its clips, or
    #: do so through others
    related: tuple[tuple[str, ListedClip], ...]
    #: of its own labels, and its clips whose id occurs twice
    rejected: tuple[Rejection, ...]
    #: (key, what stood there) → labels whose value under an optional key was of no use
    left_out: Counter[tuple[str, str]]


def list_dataset(
    data: DataConfig, root: Path, content: Callable[[str], str] | None = None
) -> dict[str, SplitListing]:
    """What each split in ``data.splits`` lists.

    An id that occurs twice, within a split or across splits, is rejected everywhere: there is no
    telling which label belongs to it. ``content`` gives the digest of a file by its path below
    ``root``; without it files are read.

    Raises:
        StudyError: the root or a split's folder is missing, or it cannot be read.
    """
    if not root.is_dir():
        raise StudyError(f"data.root is {root}, which is no folder; expected a dataset.")
    scans: dict[str, Scan] = {
        split: scan_split(data, root, folder) for split, folder in data.splits.items()
    }
    return related(scans, root, content)


def related(
    scans: Mapping[str, Scan], root: Path, content: Callable[[str], str] | None = None
) -> dict[str, SplitListing]:
    """What splits list that were scanned; arguments as of :func:`list_dataset`."""
    by_id: dict[str, list[str]] = defaultdict(list)
    for split, scan in scans.items():
        for clip in scan.clips:
            by_id[clip.id].append(split)
    rejected: dict[str, list[Rejection]] = {}
    listed: list[tuple[str, ListedClip]] = []
    for split, scan in scans.items():
        rejected[split] = [*scan.rejected]
        for clip in sorted(scan.clips, key=lambda clip: clip.id):
            homes = by_id[clip.id]
            if len(homes) == 1:
                listed.append((split, clip))
            else:
                reason = f"duplicate id: in the splits {', '.join(homes)}"
                rejected[split].append(Rejection(clip.id, clip.path, reason))
    families = _families(listed, root, content or (lambda path: sampled_digest(root / path)))
    known: dict[str, set[str]] = defaultdict(set)
    for (split, _), family in zip(listed, families, strict=True):
        known[split].add(family)
    return {
        split: SplitListing(
            tuple(clip for home, clip in listed if home == split),
            tuple(
                (home, clip)
                for (home, clip), family in zip(listed, families, strict=True)
                if home != split and family in known[split]
            ),
            tuple(rejected[split]),
            scan.left_out,
        )
        for split, scan in scans.items()
    }


def _families(
    listed: list[tuple[str, ListedClip]], root: Path, content: Callable[[str], str]
) -> list[str]:
    """A name for each clip: one for all that share a source video or, in two splits, a file."""
    sizes = {clip.path: file_size(root / clip.path) for _, clip in listed}
    splits: dict[int, set[str]] = defaultdict(set)
    for split, clip in listed:
        splits[sizes[clip.path]].add(split)
    joined: dict[str, str] = {}

    def family(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    for _, clip in listed:
        # Only what has the size of a file in another split can be that file.
        if len(splits[sizes[clip.path]]) > 1:
            first, *other = sorted(
                {family(f"group {clip.group}"), family(f"file {content(clip.path)}")}
            )
            joined.update(dict.fromkeys(other, first))
    return [family(f"group {clip.group}") for _, clip in listed]


#: A file in two splits stays in the later one: clips that are reported are dearer.
DEARER = ("train", "selection", "report", "held_out")


def require_apart(clips: Iterable[tuple[str, str, str]]) -> None:
    """Raise StudyError for a source video of two splits, told from (split, group, id) of clips.

    Clips of one source video look alike: trained on and reported, they would leak.
    """
    homes: dict[str, str] = {}
    for split, group, clip in sorted(clips, key=lambda row: (DEARER.index(row[0]), row[2])):
        other = homes.setdefault(group, split)
        if other != split:
            raise StudyError(
                f"source video '{group}' has clips in the splits {other} and {split} "
                f"(one is '{clip}'); expected each source in one split: move its clips, or "
                "set data.group_key to the key that names the source."
            )
