"""Tokens for text metrics: Korean morphemes by Kiwi, or words.

Every function first brings text to Unicode NFC, so that the same Korean syllables stored as single
code points or as jamo give the same tokens. An empty caption gives no tokens.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.metrics.morphemes import current as analyser
from siglip_study.metrics.token_lists import TokenLists, code_points, lengths

#: Kiwi tags that carry content: common and proper nouns, pronouns, numerals, verbs, adjectives,
#: adverbs, roots, Latin words, digits, Chinese characters. Left out: particles, endings, affixes,
#: copulas, auxiliary verbs, bound nouns (counters), punctuation.
CONTENT_TAGS = frozenset(
    {"NNG", "NNP", "NP", "NR", "VV", "VA", "MAG", "XR", "SL", "SN", "SH"},
)
#: Kiwi tags "two" in "two balls" as a determiner (MM), like "that"; only the numerals are content.
# fmt: off
NUMERAL_DETERMINERS = frozenset({
    "한", "두", "세", "네", "서", "석", "너", "넉", "다섯", "여섯", "일곱", "여덟", "아홉", "열",
    "스무", "한두", "두세", "서너", "여러", "몇",
})
# fmt: on
LANGUAGES = ("ko", "en", "other")

_WORD = re.compile(r"\w+|[^\w\s]")


@functools.lru_cache(maxsize=2**14)
def normalise(text: str) -> str:
    """NFC, with every run of white space as one space and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@functools.cache
def _is_content(token: str) -> bool:
    form, _, tag = token.rpartition("/")
    return tag in CONTENT_TAGS or (tag == "MM" and form in NUMERAL_DETERMINERS)


def morphemes(texts: Sequence[str]) -> TokenLists:
    """All Korean morphemes of each text as ``"form/tag"``, Latin letters in lower case.

    Each sentence is analysed by itself, so that it gives the same wherever it stands.
    """
    return analyser()(_folded(texts))


def morphemes_by_sentence(texts: Sequence[str]) -> dict[str, list[str]]:
    """Every sentence of the texts, as the analyser sees it, with its morphemes."""
    return analyser().sentences(_folded(texts))


def _folded(texts: Sequence[str]) -> list[str]:
    return [normalise(text).lower() for text in texts]


def content_morphemes(texts: Sequence[str]) -> TokenLists:
    """The morphemes of each text that carry content (:data:`CONTENT_TAGS`), as ``"form/tag"``."""
    return _content_and_all_morphemes(texts)[0]


def _content_and_all_morphemes(texts: Sequence[str]) -> tuple[TokenLists, TokenLists]:
    everything = morphemes(texts)
    return everything.only(_is_content), everything


def characters(texts: Sequence[str]) -> TokenLists:
    """Characters of each text in lower case, without white space."""
    # By code points: there are more characters than all other tokens together.
    joined = [text.replace(" ", "") for text in _folded(texts)]
    points = code_points("".join(joined))
    used = np.bincount(points) > 0
    strings = [chr(point) for point in np.flatnonzero(used).tolist()]
    return TokenLists(strings, (np.cumsum(used) - 1)[points], lengths(joined))


def words(texts: Sequence[str]) -> TokenLists:
    """Words of each text in lower case; every punctuation mark is a token of its own."""
    return TokenLists.of([_WORD.findall(normalise(text).lower()) for text in texts])


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def _content_and_all_words(texts: Sequence[str]) -> tuple[TokenLists, TokenLists]:
    everything = words(texts)
    return everything.only(_is_word), everything


def spaced_words(texts: Sequence[str]) -> TokenLists:
    """What stands between white space, as the published study fed METEOR."""
    return TokenLists.of([normalise(text).split() for text in texts])


@dataclass(frozen=True)
class Tokens:
    """The tokens of N texts, split in four ways.

    Attributes:
        content: tokens that carry content.
        all: all tokens.
        characters: characters.
        words: what stands between white space.
    """

    content: TokenLists
    all: TokenLists
    characters: TokenLists
    words: TokenLists


@dataclass(frozen=True)
class Tokenizer:
    """Splits the texts of one language.

    Attributes:
        content_and_all: gives the content tokens and all tokens of each text in one pass.
        names: full name of each kind of token in :class:`Tokens`, for the metrics' metadata.
    """

    content_and_all: Callable[[Sequence[str]], tuple[TokenLists, TokenLists]]
    names: dict[str, str]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Split each text in all four ways."""
        content, everything = self.content_and_all(texts)
        return Tokens(content, everything, characters(texts), spaced_words(texts))


@functools.cache
def tokenizer_for(language: str) -> Tokenizer:
    """The tokenizer of ``"ko"`` (Kiwi morphemes), ``"en"`` or ``"other"`` (words).

    Raises:
        StudyError: another language.
    """
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise StudyError(f"language is {language!r}; expected one of {known}.")
    names = {"characters": "characters (NFC, lower case)", "words": "white space (NFC)"}
    if language == "ko":
        kiwi = f"kiwipiepy {version('kiwipiepy')}"
        names |= {"content": f"{kiwi}, content morphemes", "all": f"{kiwi}, morphemes"}
        return Tokenizer(_content_and_all_morphemes, names)
    names |= {"content": "words without punctuation (lower case)", "all": "words (lower case)"}
    return Tokenizer(_content_and_all_words, names)
