"""What a Korean caption says of the demo's world, and how far captions are right beyond chance."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from siglip_study.demo.lexicon import COUNTERS, SYNONYMS
from siglip_study.demo.world import ATTRIBUTES

#: Endings that may follow a word which states a fact; what else follows makes it another word
#: (배 is a boat, 배경 is not).
_PARTICLES = (
    "이|가|은|는|을|를|의|에|에서|에는|에서는|으로|로|도|만|과|와|"
    "이다|다|이고|고|이며|며|입니다|이에요|예요"
)

#: Beginnings of inflected words. Whole words are read from :data:`lexicon.SYNONYMS`.
_STEMS: dict[str, dict[str, str]] = {
    "size": {"small": "작고|자그마|조그마", "large": "크고|커다|큼직"},
    "motion": {
        "still": "가만히|멈춰|제자리|머물|그대로|정지",
        "left": "왼쪽|왼편|좌측",
        "right": "오른쪽|오른편|우측",
        "up": "위로|위쪽|올라가|올라간|올라갑|떠오|떠올",
        "down": "아래로|아래쪽|내려가|내려간|내려갑|내려오|내려온|내려옵|내려와",
    },
    "weather": {"clear": "맑|화창"},
    "camera": {"static": "고정", "zoom_in": "가까워|확대|다가", "zoom_out": "멀어|축소|물러"},
}


@cache
def _patterns() -> dict[str, dict[str, re.Pattern[str]]]:
    counters = "|".join(sorted(set(COUNTERS.values())))
    patterns: dict[str, dict[str, re.Pattern[str]]] = {attribute: {} for attribute in ATTRIBUTES}
    for attribute, values in ATTRIBUTES.items():
        for value in values:
            # Of a form of several words (둥근 공) the last one states the fact.
            nouns = {form.split()[-1] for form in SYNONYMS[attribute][value]}
            if attribute == "count":
                alone, before = SYNONYMS["count"][value]
                expression = rf"(?:{alone}|(?:{before}|{value}) ?(?:{counters}))(?:{_PARTICLES})?\b"
            else:
                expression = rf"(?:{'|'.join(sorted(nouns))})(?:{_PARTICLES})?\b"
            if stems := _STEMS.get(attribute, {}).get(value):
                expression = rf"(?:{expression}|(?:{stems}))"
            patterns[attribute][value] = re.compile(rf"\b{expression}")
    return patterns


def parse_facts(caption: str) -> dict[str, str | None]:
    """The facts that a caption states: attribute → value, in the order of ``ATTRIBUTES``.

    None where the caption states no value of the attribute, or more than one. Any string will do;
    decomposed Hangul (NFD) and runs of white space are read like their usual forms.
    """
    text = re.sub(r"\s+", " ", unicodedata.normalize("NFC", caption))
    stated: dict[str, str | None] = {}
    for attribute, values in _patterns().items():
        found = [value for value, pattern in values.items() if pattern.search(text)]
        stated[attribute] = found[0] if len(found) == 1 else None
    return stated


@dataclass(frozen=True)
class Kappa:
    """Agreement with the truth beyond the majority answer, with a 95 % interval.

    ``kappa``, ``low`` and ``high`` are null where the truth has one value only: nothing can then
    be told apart. κ is 1 for captions that are always right, 0 for the majority answer, and below
    0 for worse. ``accuracy`` and ``majority`` are shares in [0, 1] of ``n`` clips.
    """

    kappa: float | None
    low: float | None
    high: float | None
    accuracy: float
    majority: float
    n: int


def kappa(
    predicted: Sequence[Mapping[str, str | None]],
    truth: Sequence[Mapping[str, str]],
    attribute: str,
    n_boot: int = 1000,
    seed: int = 0,
) -> Kappa:
    """κ = (accuracy − majority) / (1 − majority) of one attribute, percentile bootstrap over clips.

    ``majority`` is the share of the most frequent true value (of equals, the first by name), which
    is the best answer of a captioner that sees nothing. Resamples keep that answer and count its
    share in themselves: the largest share of each resample would be too large on average, and the
    interval would lie too low. A captioner of that answer alone has 0 with the bounds 0 and 0.

    A fact unstated (None or absent) counts as wrong. Where all true values are the same, κ and its
    interval are None; resamples in which that happens by chance are left out of the interval.

    Raises:
        ValueError: the lists differ in length or are empty.
    """
    if len(predicted) != len(truth) or not truth:
        raise ValueError(
            f"{len(predicted)} predictions for {len(truth)} truths; expected as many, and some"
        )
    true = [row[attribute] for row in truth]
    right = np.array([p.get(attribute) == t for p, t in zip(predicted, true, strict=True)])
    values, counts = np.unique(true, return_counts=True)
    frequent = np.array(true) == values[counts.argmax()]  # [clips]
    n = len(true)
    accuracy, majority = float(right.mean()), float(frequent.mean())
    if majority == 1.0:
        return Kappa(None, None, None, accuracy, majority, n)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_boot)  # [resamples, clips]
    # Whole counts before the division: a share of 1 is then exactly 1.
    accuracies, majorities = (times @ right) / n, (times @ frequent) / n
    usable = majorities < 1
    low = high = None
    if usable.any():
        drawn = (accuracies[usable] - majorities[usable]) / (1 - majorities[usable])
        low, high = map(float, np.quantile(drawn, (0.025, 0.975)))
    return Kappa((accuracy - majority) / (1 - majority), low, high, accuracy, majority, n)
