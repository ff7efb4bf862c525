"""The clips of the report: what was said of each, by whom, packed for the page's own script.

The page holds the text of every clip, compressed, and the pictures of as many as fit. Which clips
are shown first is decided by a hash of their ids, never by a score.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from siglip_study.base.io import check_digest, read_parquet
from siglip_study.ranking.metric_figures import MARGIN
from siglip_study.report.embed import json_island
from siglip_study.report.pictures import Grid, sheet_grid
from siglip_study.scoring.inputs import read_facts
from siglip_study.study.paths import Paths

#: Clips that are seen at once.
AT_ONCE = 3
#: Baselines that stand below the projectors: role → what the page calls them.
BASELINES: dict[str, Literal["retrieval", "hot"]] = {
    "control_retrieval": "retrieval",
    "control_hot": "hot",
}


@dataclass(frozen=True)
class GallerySettings:
    """What the page may hold of the clips.

    Attributes:
        pictures: clip id → WebP sheet of its frames (``pictures.contact_sheet``); None: none.
        frames: frames on a sheet.
        max_picture_clips: clips with pictures, at most; the first by hash.
        picture_bytes: budget of all pictures, as base64.
        text_bytes: budget of all text, as it lies in the page.
        page_bytes: size of the whole page; the budgets above shrink until it holds.
    """

    pictures: Callable[[str], bytes] | None = None
    frames: int = 8
    max_picture_clips: int = 200
    picture_bytes: int = 4_000_000
    text_bytes: int = 6_000_000
    page_bytes: int = 12_000_000


@dataclass(frozen=True)
class Voice:
    """Who captions: a projector with one cell a seed, or a baseline with one cell and no seed."""

    name: str
    kind: Literal["projector", "retrieval", "hot"]
    cells: tuple[str, ...]
    seeds: tuple[int | None, ...]


@dataclass(frozen=True)
class Fact:
    """One fact of the demo's world: what is true of the clip, and what a caption says of it."""

    attribute: str
    true: str
    said: str | None

    @property
    def right(self) -> bool:
        """Whether the caption states the fact, and no other value of it."""
        return self.said == self.true


@dataclass(frozen=True)
class Said:
    """One caption of one clip.

    Attributes:
        caption: as it was decoded.
        margin: its M in SD; None where it has none.
        truncated: the decoder ran out of tokens.
        repeated: the same cell says exactly this of another clip as well.
        misleading: it has the highest margin of all projectors, yet another of them knows more
            facts (the demo alone has facts).
        facts: one an attribute; empty where facts are not known.
    """

    caption: str
    margin: float | None
    truncated: bool = False
    repeated: bool = False
    misleading: bool = False
    facts: tuple[Fact, ...] = ()

    @property
    def wrong(self) -> tuple[Fact, ...]:
        """Facts that it does not state as they are."""
        return tuple(fact for fact in self.facts if not fact.right)


@dataclass(frozen=True)
class ShownClip:
    """A clip and all that is said of it: ``said`` has one entry a voice, of one entry a seed."""

    id: str
    group: str | None
    category: str | None
    seconds: float | None
    references: tuple[str, ...]
    human_margin: float | None
    said: tuple[tuple[Said | None, ...], ...]
    picture: bytes | None = None


@dataclass(frozen=True)
class Gallery:
    """What the Clips part shows, and what its script reads.

    Attributes:
        voices: projectors in rank order, then baselines.
        clips: those in the page, by hash; ``total`` are in the study.
        attributes: facts that are known: attribute → its values.
        grid: how frames lie on a picture.
        frames: frames on a picture.
    """

    voices: tuple[Voice, ...]
    clips: tuple[ShownClip, ...]
    total: int
    attributes: Mapping[str, tuple[str, ...]]
    grid: Grid
    frames: int

    @property
    def first(self) -> tuple[ShownClip, ...]:
        """Those that the page shows without a script."""
        return self.clips[:AT_ONCE]

    @property
    def pictured(self) -> int:
        """How many clips have a picture."""
        return sum(clip.picture is not None for clip in self.clips)

    @property
    def seeds(self) -> int:
        """How many seeds can be switched between."""
        return max((len(voice.seeds) for voice in self.voices), default=0)

    @property
    def categories(self) -> list[str]:
        """Categories of the clips, sorted."""
        return sorted({clip.category for clip in self.clips if clip.category is not None})

    @cached_property
    def text(self) -> str:
        """All that the script draws as JSON, for :func:`compressed`."""
        return json_island(
            {
                "voices": [[v.name, v.kind, v.seeds] for v in self.voices],
                "attributes": self.attributes,
                "clips": [_packed(clip, self.attributes) for clip in self.clips],
            }
        )

    def pictures(self) -> list[str | None]:
        """Base64 of each clip's picture, as far as it has one."""
        return [
            None if clip.picture is None else base64.b64encode(clip.picture).decode()
            for clip in self.clips
        ]


def compressed(text: str) -> str:
    """Text as base64 of its gzip, which a script element can hold as it is."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


def gallery_order(ids: Sequence[str]) -> list[str]:
    """Ids by their hash: which clips are shown depends on no score."""
    return sorted(ids, key=lambda clip: (hashlib.sha256(clip.encode()).hexdigest(), clip))


def gallery_voices(cells: Sequence[Mapping[str, Any]], projectors: Sequence[str]) -> list[Voice]:
    """Who captions: ``projectors`` in this order, then baselines; ``cells`` is the table."""
    reports: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(cells, key=lambda row: row["seed"] or 0):
        if row["role"] == "report":
            reports.setdefault(row["projector"], []).append(row)
    order = {label: place for place, label in enumerate(projectors)}
    voices = [
        Voice(label, "projector", *(tuple(row[key] for row in own) for key in ("cell", "seed")))
        for label, own in sorted(reports.items(), key=lambda o: (order.get(o[0], len(order)), o[0]))
    ]
    for role, kind in BASELINES.items():
        found = next((row for row in cells if row["role"] == role), None)
        if found is not None:
            voices.append(Voice(found["cell"], kind, (found["cell"],), (None,)))
    return voices


def read_gallery(
    results: Path,
    cells: Sequence[Mapping[str, Any]],
    projectors: Sequence[str],
    settings: GallerySettings,
) -> Gallery:
    """The gallery of a study with pictures of its first clips, of whatever size.

    ``cells`` are rows of the table that stand for something of their own, ``projectors`` in the
    order in which they are shown.
    """
    voices = gallery_voices(cells, projectors)
    wanted = ["references", *(cell for voice in voices for cell in voice.cells)]
    # Only the rows and columns that are shown: the whole table may be large.
    check_digest(table := Paths(results).tables / "clips.parquet")
    rows = (
        pl.scan_parquet(table)
        .select("cell", "id", "caption", MARGIN, "truncated")
        .filter(pl.col("cell").is_in(wanted))
        .collect()
    )
    facts_file = Paths(results).demo / "facts.json"
    facts = read_facts(facts_file) if facts_file.is_file() else {}
    manifest = read_parquet(Paths(results).manifest)
    made = make_gallery(manifest.to_dicts(), rows.to_dicts(), voices, facts, settings.frames)
    if settings.pictures is None:
        return made
    pictured = [
        replace(clip, picture=settings.pictures(clip.id))
        for clip in made.clips[: settings.max_picture_clips]
    ]
    return replace(made, clips=(*pictured, *made.clips[len(pictured) :]))


def make_gallery(
    manifest: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    voices: Sequence[Voice],
    facts: Mapping[str, Mapping[str, str]],
    frames: int,
) -> Gallery:
    """The gallery of these clips.

    ``rows`` are those of the ``clips`` table of the voices' cells, and of ``references``; ``facts``
    are clip id → attribute → value, as far as they are known.
    """
    shown = {cell for voice in voices for cell in voice.cells}
    often = Counter((row["cell"], row["caption"]) for row in rows)
    by_clip: dict[str, dict[str, Mapping[str, Any]]] = {}
    human: dict[str, float | None] = {}
    for row in rows:
        if row["cell"] in shown:
            by_clip.setdefault(row["id"], {})[row["cell"]] = row
        elif row["cell"] == "references":
            human[row["id"]] = _finite(row[MARGIN])
    told = {row["id"]: row for row in manifest}

    def said(clip: str, cell: str) -> Said | None:
        row = by_clip[clip].get(cell)
        if row is None:
            return None
        caption = row["caption"]
        return Said(
            caption=caption,
            margin=_finite(row[MARGIN]),
            truncated=bool(row["truncated"]),
            repeated=often[cell, caption] > 1,
            facts=_facts(caption, facts.get(clip)),
        )

    clips = []
    for clip in gallery_order(list(by_clip)):
        own = told.get(clip, {})
        clips.append(
            ShownClip(
                id=clip,
                group=own.get("group"),
                category=own.get("category"),
                seconds=_finite(own.get("duration_s")),
                references=tuple(own.get("captions") or ()),
                human_margin=human.get(clip),
                said=_with_misleading(
                    voices, [tuple(said(clip, cell) for cell in v.cells) for v in voices]
                ),
            )
        )
    attributes: dict[str, tuple[str, ...]] = {}
    if any(clip.id in facts for clip in clips):
        from siglip_study.demo.world import ATTRIBUTES

        attributes = dict(ATTRIBUTES)
    return Gallery(tuple(voices), tuple(clips), len(clips), attributes, sheet_grid(frames), frames)


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)


def _facts(caption: str, true: Mapping[str, str] | None) -> tuple[Fact, ...]:
    """What a caption says of each known fact."""
    if true is None:
        return ()
    from siglip_study.demo.facts import parse_facts

    stated = parse_facts(caption)
    return tuple(Fact(name, true[name], said) for name, said in stated.items())


def _with_misleading(
    voices: Sequence[Voice], said: list[tuple[Said | None, ...]]
) -> tuple[tuple[Said | None, ...], ...]:
    """``said`` with a mark on captions that the score puts first although another knows more."""
    marked = [list(own) for own in said]
    projectors = [i for i, voice in enumerate(voices) if voice.kind == "projector"]
    for seed in range(max((len(said[i]) for i in projectors), default=0)):
        heard = [
            (i, own)
            for i in projectors
            if seed < len(said[i]) and (own := said[i][seed]) and own.margin is not None
        ]
        if not heard:
            continue
        first, best = max(heard, key=lambda one: one[1].margin or 0.0)
        if best.wrong and any(len(own.wrong) < len(best.wrong) for _, own in heard):
            marked[first][seed] = replace(best, misleading=True)
    return tuple(tuple(own) for own in marked)


# ---- Within the page's bytes.


def within_budget(gallery: Gallery, settings: GallerySettings) -> Gallery:
    """As much of a gallery as fits.

    Of its text all seeds, else the first; then fewer clips, the first by hash. Of its pictures
    those of the first clips.
    """
    budget = settings.text_bytes
    size = len(compressed(gallery.text))
    if size > budget and gallery.seeds > 1:
        gallery = replace(
            gallery,
            voices=tuple(replace(v, cells=v.cells[:1], seeds=v.seeds[:1]) for v in gallery.voices),
            clips=tuple(replace(c, said=tuple(own[:1] for own in c.said)) for c in gallery.clips),
        )
        size = len(compressed(gallery.text))
    while size > budget and gallery.clips:
        kept = int(0.95 * len(gallery.clips) * budget / size)
        gallery = replace(gallery, clips=gallery.clips[:kept])
        size = len(compressed(gallery.text)) if kept else 0
    left, clips = settings.picture_bytes, list(gallery.clips)
    for i, clip in enumerate(clips):
        left -= 0 if clip.picture is None else 4 * -(-len(clip.picture) // 3)
        if left < 0:
            clips[i] = replace(clip, picture=None)
    return replace(gallery, clips=tuple(clips))


# ---- As the script reads it.

#: What is marked of a caption, as bits of one number.
_MARKS = ("truncated", "repeated", "misleading")


def _packed(clip: ShownClip, attributes: Mapping[str, tuple[str, ...]]) -> list[Any]:
    """``[id, group, category, seconds, references, human margin, truth, said]``.

    ``said`` has one list a voice of one entry a seed: ``[caption, margin, marks, facts]``. Facts
    are one character an attribute: the place of its value in ``attributes``, or ``-``.
    """
    truth = next((s.facts for own in clip.said for s in own if s), ())
    return [
        clip.id,
        clip.group,
        clip.category,
        clip.seconds,
        clip.references,
        _short(clip.human_margin),
        "".join(_place(attributes, fact.attribute, fact.true) for fact in truth),
        [[_packed_said(one, attributes) for one in own] for own in clip.said],
    ]


def _packed_said(said: Said | None, attributes: Mapping[str, tuple[str, ...]]) -> list[Any] | None:
    if said is None:
        return None
    marks = sum(getattr(said, name) << bit for bit, name in enumerate(_MARKS))
    facts = "".join(_place(attributes, fact.attribute, fact.said) for fact in said.facts)
    return [said.caption, _short(said.margin), marks, facts]


def _place(attributes: Mapping[str, tuple[str, ...]], attribute: str, value: str | None) -> str:
    """The place of a value among those of its attribute; at most nine are told apart."""
    values = attributes[attribute]
    return str(values.index(value)) if value in values else "-"


def _short(margin: float | None) -> float | None:
    return None if margin is None else round(margin, 3)
