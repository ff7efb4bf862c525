"""What became of a dataset: counts, and the one line that console and report show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from siglip_study.base.io import read_result, write_json
from siglip_study.data.labels import Rejection

SCHEMA = "manifest_summary/1"


REJECTED_SCHEMA: dict[str, pl.DataType] = {name: pl.String() for name in ("id", "path", "reason")}
_UNUSED_SCHEMA = "unused/1"


@dataclass(frozen=True)
class Unused:
    """What of a split or dataset is not used."""

    #: clips and labels, by path
    rejected: tuple[Rejection, ...]
    #: (key, what stood there, labels) of values under optional keys that were of no use
    values: tuple[tuple[str, str, int], ...]

    @classmethod
    def of(cls, rejected: Iterable[Rejection], values: Mapping[tuple[str, str], int]) -> Unused:
        """Both in their order, from (key, what stood there) → labels."""
        return cls(
            tuple(sorted(rejected, key=lambda r: (r.path, r.id))),
            tuple((key, found, n) for (key, found), n in sorted(values.items())),
        )

    @classmethod
    def joined(cls, parts: Iterable[Unused]) -> Unused:
        """What of all these splits is not used."""
        rejected, values = list[Rejection](), Counter[tuple[str, str]]()
        for part in parts:
            rejected += part.rejected
            values += Counter({(key, found): n for key, found, n in part.values})
        return cls.of(rejected, values)

    def table(self) -> pl.DataFrame:
        """The rejected clips and labels, ``REJECTED_SCHEMA``."""
        return pl.DataFrame([vars(r) for r in self.rejected], schema=REJECTED_SCHEMA)

    def write(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self), _UNUSED_SCHEMA)


def read_unused(path: str | Path) -> Unused:
    """Read what :meth:`Unused.write` wrote; StudyError where that is not there."""
    return read_result(path, Unused, _UNUSED_SCHEMA)


@dataclass(frozen=True)
class ManifestSummary:
    """Counts of the clips that are used and of what is not."""

    #: split → usable clips
    clips: dict[str, int]
    #: kind of reason → rejected clips and labels, most frequent first
    rejected: dict[str, int]
    #: optional key and what stood there → labels of which it was left out
    left_out: dict[str, int]
    #: usable clips that are read otherwise, where the study asks for decord
    without_decord: int = 0

    def line(self, rejected_list: str | Path) -> str:
        """For example ``Usable clips: 20 train, 5 report; 2 not usable (no caption 2), see …``."""
        parts = [f"{n} {split}" for split, n in self.clips.items()]
        told = f"Usable clips: {', '.join(parts)}"
        if self.rejected:
            kinds = ", ".join(f"{kind} {n}" for kind, n in self.rejected.items())
            told += f"; {sum(self.rejected.values())} not usable ({kinds}), see {rejected_list}"
        else:
            told += "; none was left out"
        for what, n in self.left_out.items():
            told += f"; {what} in {n} labels, left out"
        if self.without_decord:
            told += f"; {self.without_decord} read without decord, which is not right on them"
        return told


def summarise(
    manifest: pl.DataFrame,
    unused: Unused,
    decoder: str = "pyav",
) -> ManifestSummary:
    """The counts of a manifest, of its rejected clips, and of optional values left out.

    ``decoder`` is the one that the study asks for.
    """
    clips = Counter(manifest["split"].to_list())
    kinds = Counter(rejected.kind for rejected in unused.rejected)
    return ManifestSummary(
        {split: clips[split] for split in manifest["split"].unique(maintain_order=True)},
        dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0]))),
        {f"'{key}' is a {found}": n for key, found, n in unused.values},
        manifest.filter(pl.col("reading") != "decord").height if decoder == "decord" else 0,
    )


def write_summary(path: str | Path, summary: ManifestSummary) -> None:
    """Write it as JSON."""
    write_json(path, asdict(summary), SCHEMA)


def read_summary(path: str | Path) -> ManifestSummary:
    """Read what :func:`write_summary` wrote; StudyError where that is not there."""
    return read_result(path, ManifestSummary, SCHEMA)
