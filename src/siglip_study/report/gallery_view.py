"""The Clips part as its template and its script see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from siglip_study.report.gallery import Gallery
from siglip_study.report.language import LANGUAGES, Text
from siglip_study.report.wording.labels import CLIPS, label

#: What a ``<select>`` offers: value → words.
Choice: TypeAlias = list[tuple[str, Text]]
#: Keys of :func:`choices`, of which each has a label ``clips.<key>``.
VERDICTS = ("elsewhere", "below", "repeated", "truncated", "empty")


def choices(gallery: Gallery) -> dict[str, Choice]:
    """What can be chosen of the clips; the first of each is what the page begins with."""

    def said(key: str, *values: str) -> Choice:
        return [(value, label(f"clips.{key}.{value}")) for value in values]

    def first(key: str, word: str) -> Choice:
        return [("", label(f"clips.{key}.{word}"))]

    kinds = {voice.kind for voice in gallery.voices}
    names = enumerate(voice.name for voice in gallery.voices if voice.kind == "projector")
    verdicts = [word for word in VERDICTS if word != "below" or "retrieval" in kinds]
    known = bool(gallery.attributes)
    facts = [
        (name, label("clips.fact.wrong", name=label(f"clips.fact.{name}")))
        for name in gallery.attributes
    ]
    seeds = next((voice.seeds for voice in gallery.voices), ())
    marks = ("shuffled", *(["seeds"] if gallery.seeds > 1 else []), "usual", "nothing")
    return {
        "sort": said("sort", "hash", "spread", "low", "high", *(["misled"] if known else [])),
        "by": first("by", "all") + [(str(i), Text.same(name)) for i, name in names],
        "is": first("is", "any") + said("is", *verdicts),
        "category": first("category", "all")
        + [(name, Text.same(name)) for name in gallery.categories],
        "fact": first("fact", "any") + said("fact", "right") + facts if known else [],
        "seed": [(str(i), Text.same(str(seed))) for i, seed in enumerate(seeds)],
        "mark": said("mark", *marks),
    }


def fact_values(gallery: Gallery) -> dict[str, dict[str, Text]]:
    """Attribute → value → its name: the demo's own word in Korean."""
    from siglip_study.demo.lexicon import SYNONYMS

    return {
        name: {value: Text(value.replace("_", " "), SYNONYMS[name][value][0]) for value in values}
        for name, values in gallery.attributes.items()
    }


def island(gallery: Gallery) -> dict[str, Any]:
    """What the script reads beside the packed text; texts are ``[English, Korean]``."""
    return {
        "labels": _pairs(CLIPS),
        "values": {name: _pairs(own) for name, own in fact_values(gallery).items()},
        "pictures": gallery.pictures(),
        "columns": gallery.grid.columns,
        "frames": gallery.frames,
    }


def _pairs(texts: Mapping[str, Text]) -> dict[str, list[str]]:
    return {key: [text.within(language) for language in LANGUAGES] for key, text in texts.items()}
