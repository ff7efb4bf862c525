"""Korean captions of scenes, in two families of sentence templates that share no template.

``clips`` is written in the plain style (-다), ``scorer`` in the polite styles (-습니다, -어요): the
scoring model learns from other sentences than the ones it will have to judge.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from siglip_study.demo import lexicon
from siglip_study.demo.lexicon import SYNONYMS, Clause, Verb, josa
from siglip_study.demo.world import ATTRIBUTES, Scene, facts

#: Share of captions that state every fact; the others leave out one of :data:`OPTIONAL`.
COMPLETE_SHARE = 0.85
OPTIONAL = ("size", "place", "weather", "camera")

_SILENCE = Clause("", "", "", "")

T = TypeVar("T")


@dataclass(frozen=True)
class _Parts:
    """The phrases of one caption, chosen before a template puts them together."""

    noun: str  # 빨간 자동차 두 대, or 두 대의 빨간 자동차
    adverb: str
    verb: Verb
    where: str  # 비 오는 바다에서; 비 오는 날에 where no place is stated
    at: str  # as `where`, with 에 in place of 에서
    setting: str  # as `where`, without a particle
    place: str  # empty where unstated, as is every ending of `weather`
    weather: Clause
    camera: tuple[str, Verb] | None
    progressive: bool

    @property
    def motion(self) -> str:
        """왼쪽으로 움직인다, or 왼쪽으로 움직이고 있다."""
        return f"{self.adverb} {self.verb.progressive if self.progressive else self.verb.plain}"

    @property
    def moving(self) -> str:
        """왼쪽으로 움직이는."""
        return f"{self.adverb} {self.verb.adnominal}"

    def camera_sentence(self, form: str) -> str:
        """화면이 점점 가까워진다. — with a space before it; empty where the camera is unstated."""
        if self.camera is None:
            return ""
        subject, verb = self.camera
        particle = "은/는" if verb.stem.startswith("고정") else "이/가"
        return f" {josa(subject, particle)} {getattr(verb, form)}."


Template = Callable[[_Parts], str]

_CLIPS: tuple[Template, ...] = (
    lambda p: f"{p.where} {josa(p.noun, '이/가')} {p.motion}.{p.camera_sentence('plain')}",
    lambda p: f"{josa(p.noun, '은/는')} {p.where} {p.motion}.{p.camera_sentence('plain')}",
    lambda p: f"{p.at} {josa(p.noun, '이/가')} 있는데 {p.motion}.{p.camera_sentence('plain')}",
    lambda p: f"{p.at} {p.moving} {josa(p.noun, '이/가')} 보인다.{p.camera_sentence('plain')}",
    lambda p: f"{p.camera_sentence('plain')} {p.where} {josa(p.noun, '이/가')} {p.motion}.",
)
#: For captions that state both place and weather: these stand apart.
_CLIPS_APART: tuple[Template, ...] = (
    lambda p: (
        f"{p.weather.plain}. {p.place}에서 {josa(p.noun, '이/가')} {p.motion}."
        f"{p.camera_sentence('plain')}"
    ),
    lambda p: (
        f"{josa(p.place, '을/를')} 배경으로 {josa(p.noun, '이/가')} {p.motion}."
        f" {p.weather.plain}.{p.camera_sentence('plain')}"
    ),
    lambda p: (
        f"{p.weather.also} {p.place}에는 {p.moving} {josa(p.noun, '이/가')} 있다."
        f"{p.camera_sentence('plain')}"
    ),
)

_SCORER: tuple[Template, ...] = (
    lambda p: f"{p.moving} {p.noun}입니다. 장면은 {p.setting}입니다.{p.camera_sentence('polite')}",
    lambda p: (
        f"영상에 {josa(p.noun, '이/가')} 나옵니다. {p.where} {p.adverb} {p.verb.polite}."
        f"{p.camera_sentence('polite')}"
    ),
    lambda p: f"{josa(p.noun, '이/가')} {p.where} {p.moving} 모습이에요.{p.camera_sentence('yo')}",
    lambda p: (
        f"{p.where} 찍은 영상이에요. {josa(p.noun, '이/가')} {p.adverb} {p.verb.yo}."
        f"{p.camera_sentence('yo')}"
    ),
)
_SCORER_APART: tuple[Template, ...] = (
    lambda p: (
        f"이곳은 {p.place}입니다. {p.weather.also} {josa(p.noun, '이/가')}"
        f" {p.adverb} {p.verb.polite}.{p.camera_sentence('polite')}"
    ),
    lambda p: (
        f"{p.place}에서 {p.moving} {josa(p.noun, '을/를')} 보세요. {p.weather.yo}."
        f"{p.camera_sentence('yo')}"
    ),
)

#: style → templates, and more of them for captions that state both place and weather.
TEMPLATES = {"clips": (_CLIPS, _CLIPS_APART), "scorer": (_SCORER, _SCORER_APART)}
STYLES = tuple(TEMPLATES)


def _pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _noun(scene: Scene, with_size: bool, rng: np.random.Generator) -> str:
    thing = _pick(rng, SYNONYMS["thing"][scene.thing])
    size = _pick(rng, SYNONYMS["size"][scene.size]) + " " if with_size else ""
    described = f"{size}{_pick(rng, lexicon.COLOUR_FORMS[scene.colour])} {thing}"
    number = f"{SYNONYMS['count'][scene.count][1]} {lexicon.COUNTERS[scene.thing]}"
    return f"{described} {number}" if rng.random() < 0.7 else f"{number}의 {described}"


def _parts(scene: Scene, stated: frozenset[str], rng: np.random.Generator) -> _Parts:
    adverbs, verbs = _pick(rng, lexicon.MOTION_FORMS[scene.motion])
    clauses = lexicon.WEATHER_CLAUSES[scene.weather]
    place = _pick(rng, SYNONYMS["place"][scene.place]) if "place" in stated else ""
    if not place:
        setting = _pick(rng, lexicon.WEATHER_TIMES[scene.weather])
        where = at = f"{setting}에"
    else:
        setting = place
        if "weather" in stated:
            setting = f"{_pick(rng, lexicon.WEATHER_BEFORE_PLACE[scene.weather])} {place}"
        where, at = f"{setting}에서", f"{setting}에"
    return _Parts(
        noun=_noun(scene, "size" in stated, rng),
        adverb=_pick(rng, adverbs),
        verb=_pick(rng, verbs),
        where=where,
        at=at,
        setting=setting,
        place=place,
        weather=_pick(rng, clauses) if "weather" in stated else _SILENCE,
        camera=_pick(rng, lexicon.CAMERA_FORMS[scene.camera]) if "camera" in stated else None,
        progressive=bool(rng.random() < 0.4),
    )


def compose(
    scene: Scene, rng: np.random.Generator, style: str = "clips"
) -> tuple[str, frozenset[str]]:
    """A caption of the scene (NFC, one line) and the attributes that it states."""
    if style not in TEMPLATES:
        raise ValueError(f"style is {style!r}; expected one of {STYLES}")
    stated = frozenset(ATTRIBUTES)
    if rng.random() >= COMPLETE_SHARE:
        stated -= {_pick(rng, OPTIONAL)}
    together, apart = TEMPLATES[style]
    templates = together + apart if {"place", "weather"} <= stated else together
    text = _pick(rng, templates)(_parts(scene, stated, rng))
    return unicodedata.normalize("NFC", text.strip()), stated


def caption(scene: Scene, rng: np.random.Generator, style: str = "clips") -> str:
    """A Korean caption of the scene in one of the :data:`STYLES`."""
    return compose(scene, rng, style)[0]


def fact_words(scene: Scene) -> dict[str, str]:
    """One Korean word for each attribute of the scene: the first of its synonyms."""
    return {attribute: SYNONYMS[attribute][value][0] for attribute, value in facts(scene).items()}
