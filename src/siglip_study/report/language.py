"""Two languages in one page: a text in both, how it is filled in, and how it reaches the page.

Every text that a reader sees is a :class:`Text`. In a template ``{{ text }}`` writes both, of which
the style shows the one that ``<html data-lang>`` names; nothing of that needs a script.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from markupsafe import Markup, escape

Language: TypeAlias = Literal["en", "ko"]

LANGUAGES: tuple[Language, ...] = ("en", "ko")
#: Every sentence and label of the report, a file a language.
_CATALOGUE: dict[Language, str] = {"en": "wording/en.toml", "ko": "wording/ko.toml"}


@dataclass(frozen=True)
class Text:
    """The same words in English and in Korean."""

    en: str
    ko: str

    @classmethod
    def same(cls, words: str) -> Text:
        """A name or a figure, which is written alike in both languages."""
        return cls(words, words)

    def within(self, language: Language) -> str:
        """The words of one language."""
        return self.en if language == "en" else self.ko

    def fill(self, **figures: Any) -> Text:
        """The text as a template of both languages, filled in; a figure may be a text itself."""
        return Text(
            *(
                particles(self.within(language).format(**_within(figures, language)))
                for language in LANGUAGES
            )
        )

    def lower(self) -> Text:
        """The text in small letters, for the middle of a sentence."""
        return Text(self.en.lower(), self.ko.lower())

    def __html__(self) -> Markup:
        """Both languages as HTML, escaped; once where they are the same."""
        if self.en == self.ko:
            return escape(self.en)
        span = Markup('<span class="t" lang="{}">{}</span>')
        return Markup().join(span.format(own, self.within(own)) for own in LANGUAGES)

    def __bool__(self) -> bool:
        """Whether there is anything to read."""
        return bool(self.en or self.ko)

    def __add__(self, other: Text) -> Text:
        """One text after another."""
        return Text(self.en + other.en, self.ko + other.ko)


NOTHING = Text("", "")


def _within(figures: Mapping[str, Any], language: Language) -> dict[str, Any]:
    return {
        key: value.within(language) if isinstance(value, Text) else value
        for key, value in figures.items()
    }


def as_text(words: str | Text) -> Text:
    """``words`` as a text: a name is written alike in both languages."""
    return words if isinstance(words, Text) else Text.same(words)


def join(separator: str | Text, parts: Sequence[str | Text]) -> Text:
    """Texts one after the other with ``separator`` between them."""
    between, texts = as_text(separator), [as_text(part) for part in parts]
    return Text(*(between.within(own).join(t.within(own) for t in texts) for own in LANGUAGES))


#: Between two clauses: Korean ends a sentence there.
AND_THEN = Text("; ", ". ")


def listed(names: Sequence[str | Text], word: Literal["and", "or"] = "and") -> Text:
    """``a``, ``a and b``, ``a, b and c``; Korean ``a``, ``a와 b``, ``a, b, c``."""
    if not names:
        return NOTHING
    *first, last = [as_text(name) for name in names]
    if not first:
        return last
    before = join(", ", first)
    if word == "or":
        return Text("{a} or {b}", "{a} 또는 {b}").fill(a=before, b=last)
    korean = "{a}^과/와 {b}" if len(first) == 1 else "{a}, {b}"
    return Text("{a} and {b}", korean).fill(a=before, b=last)


def said(table: Mapping[str, Text], key: str, **figures: Any) -> Text:
    """The text ``key`` of a table of a part's sentences, filled in."""
    return table[key].fill(**figures)


@cache
def written(language: Language) -> dict[str, dict[str, str]]:
    """The catalogue in one language, as its file has it: part → key → words."""
    path = Path(__file__).parent / _CATALOGUE[language]
    return tomllib.loads(path.read_text(encoding="utf-8"))


def texts(part: str) -> dict[str, Text]:
    """A part of the catalogue: key → its text; ``{…}`` in it are for :meth:`Text.fill`."""
    korean = written("ko")[part]
    return {key: Text(words, korean[key]) for key, words in written("en")[part].items()}


def capital(text: Text) -> Text:
    """``text`` with a capital at its start."""
    return Text(*(words[:1].upper() + words[1:] for words in (text.en, text.ko)))


def sentence(text: Text | None) -> Text:
    """A clause as a sentence: a capital at its start, one full stop at its end."""
    if not text:
        return NOTHING
    ended = (words.strip().rstrip(".") + "." for words in (text.en, text.ko))
    return capital(Text(*ended))


# ---- Korean particles, whose form hangs on the sound before them.

_PARTICLE = re.compile(r"\^([가-힣]+)/([가-힣]+)")
#: Digits whose Korean name ends in a consonant (영, 일, 삼, 육, 칠, 팔; 십 and 백 end in one too).
_CLOSED_DIGITS = "013678"
#: Final consonant ㄹ, after which 으로 becomes 로: 일, 칠, 팔 among digits; L and R among letters.
_LIQUID = 8


def particles(words: str) -> str:
    """``words`` with the particles that are written ``^은/는`` in the form that fits.

    The first form follows a final consonant, the second a vowel. A Latin word counts as closed
    where it ends in l, m, n or a closed digit's figure, as it is read aloud in Korean.
    """
    return _PARTICLE.sub(lambda found: _chosen(found, words), words)


def _chosen(found: re.Match[str], words: str) -> str:
    closed, open_ = found.groups()
    before = re.sub(r"[^\w%]+$", "", words[: found.start()])
    return closed if _closed(before[-1:], liquid_is_open=closed.startswith("으로")) else open_


def _closed(letter: str, *, liquid_is_open: bool) -> bool:
    if "가" <= letter <= "힣":
        final = (ord(letter) - ord("가")) % 28
        return final != 0 and not (liquid_is_open and final == _LIQUID)
    if letter.isdigit():
        return letter in (_CLOSED_DIGITS if not liquid_is_open else "036")
    return letter.lower() in ("m", "n") or (letter.lower() == "l" and not liquid_is_open)


# ---- In templates.


def attribute(name: str, text: Text, language: Language) -> Markup:
    """An attribute in the page's language; the script that switches finds the others beside it."""
    values = {name: text.within(language)}
    if text.en != text.ko:
        values |= {f"data-{own}-{name}": text.within(own) for own in LANGUAGES}
    return Markup(" ").join(Markup('{}="{}"').format(key, value) for key, value in values.items())
