"""Tokens for text metrics, Korean morphemes by Kiwi or words, and n-grams of them.

Every function first brings text to Unicode NFC, so that the same Korean syllables stored as single
code points or as jamo give the same tokens. An empty caption gives no tokens.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import regex

from siglip_study.base.errors import StudyError
from siglip_study.metrics import morphemes as kiwi
from siglip_study.metrics.morphemes import TAB

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
#: The tokens of each text.
Lists = tuple[tuple[str, ...], ...]

_WORD = re.compile(r"\w+|[^\w\s]")
# Scripts that put no blanks between words: each character, with its marks, is a token. Elsewhere
# marks (vowel signs, accents) and joiners stay in their word.
_SCRIPTS = "Han Hiragana Katakana Bopomofo Thai Lao Khmer Myanmar Tibetan Tai_Le New_Tai_Lue"
_UNSPACED = "[ー" + "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS.split(" ")) + "]"
_ANY = regex.compile(
    rf"(?={_UNSPACED})\X|(?:(?!{_UNSPACED})[\w\p{{M}}\u200c\u200d])+|(?!\s)\X",
)
_CHARACTER = regex.compile(r"(?!\s)\X")


@functools.lru_cache(maxsize=2**14)
def normalise(text: str) -> str:
    """NFC, with every run of white space as one space and none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def folded(text: str) -> str:
    """Normalised, in lower case."""
    return normalise(text).lower()


@functools.cache
def _is_content(token: str) -> bool:
    form, _, tag = token.rpartition("/")
    return tag in CONTENT_TAGS or (tag == "MM" and form in NUMERAL_DETERMINERS)


@dataclass(frozen=True)
class Tokens:
    """The tokens of texts, split in four ways, each when it is first asked for.

    Attributes:
        texts: as they were given.
        rows: all tokens of each text, tabs between: few bytes for other processes.
        language: ``"ko"``, ``"en"`` or ``"other"``.
    """

    texts: tuple[str, ...]
    rows: tuple[str, ...]
    language: str

    @functools.cached_property
    def all(self) -> Lists:
        """Korean morphemes as ``"form/tag"``, or words and punctuation marks; in lower case.

        Each sentence is analysed by itself, so that it gives the same wherever it stands.
        """
        # A token is one object wherever it stands, so that n-grams are compared fast.
        split = (row.split(TAB) if row else () for row in self.rows)
        return tuple(tuple(map(sys.intern, tokens)) for tokens in split)

    @functools.cached_property
    def content(self) -> Lists:
        """Morphemes that carry content (:data:`CONTENT_TAGS`), or words without punctuation."""
        is_content = _is_content if self.language == "ko" else _is_word
        return tuple(tuple(filter(is_content, tokens)) for tokens in self.all)

    @functools.cached_property
    def characters(self) -> Lists:
        """Characters in lower case, without white space; in ``"other"`` with their marks."""
        lowered = map(folded, self.texts)
        if self.language == "other":
            return tuple(tuple(_CHARACTER.findall(text)) for text in lowered)
        return tuple(tuple(text.replace(" ", "")) for text in lowered)

    @functools.cached_property
    def words(self) -> Lists:
        """What stands between white space, as the published study fed METEOR."""
        return tuple(tuple(normalise(text).split()) for text in self.texts)


def _is_word(token: str) -> bool:
    return token[0].isalnum()


def tokenize(texts: Sequence[str], language: str) -> Tokens:
    """Split texts of ``"ko"`` (Kiwi morphemes), ``"en"`` (words) or ``"other"``.

    Those of ``"other"`` are words, and characters where a script has no blanks (Chinese, Japanese,
    Thai, Lao, Khmer, Burmese, Tibetan).

    Raises:
        StudyError: another language.
    """
    _check(language)
    lowered = [folded(text) for text in texts]
    if language == "ko":
        rows = kiwi.current()(lowered)
    else:
        pattern = _WORD if language == "en" else _ANY
        rows = tuple(TAB.join(pattern.findall(text)) for text in lowered)
    return Tokens(tuple(texts), rows, language)


def tokenizer_names(language: str) -> dict[str, str]:
    """Full name of each kind of token, for the metrics' metadata."""
    _check(language)
    names = {
        "characters": "characters (NFC, lower case)",
        "words": "white space (NFC)",
        "model": "the model's own",
    }
    if language == "ko":
        name = f"kiwipiepy {version('kiwipiepy')}"
        return names | {"content": f"{name}, content morphemes", "all": f"{name}, morphemes"}
    words = "words" if language == "en" else "words and unspaced characters"
    return names | {
        "content": f"{words} without punctuation (lower case)",
        "all": f"{words} (lower case)",
    }


def _check(language: str) -> None:
    if language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise StudyError(f"language is {language!r}; expected one of {known}.")


def ngrams(tokens: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of ``n`` tokens, repeated ones again."""
    return zip(*(tokens[k:] for k in range(n)), strict=False)
