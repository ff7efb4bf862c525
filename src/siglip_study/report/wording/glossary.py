"""The one glossary: what each special term of the page means, in both languages."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from siglip_study.report.language import Text, texts


@dataclass(frozen=True)
class Term:
    """A special term and what it means, in one or two sentences."""

    name: Text
    meaning: Text


_TEXTS = texts("glossary")
TERMS = {
    key: Term(name, _TEXTS[f"{key}.meaning"])
    for key, name in _TEXTS.items()
    if not key.endswith(".meaning")
}


def term(key: str, name: Text | None = None) -> Markup:
    """A term with its meaning at hand: shown on hover and focus, and linked to the glossary.

    ``name`` is what stands in the text, where it is not the term itself.

    Raises:
        KeyError: the glossary has no such term.
    """
    found = TERMS[key]
    return Markup(
        '<a class="term" href="#term-{}">{}<span class="tip" role="tooltip">{}</span></a>'
    ).format(key, name or found.name, found.meaning)
