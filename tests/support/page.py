"""The report as a reader's program sees it: elements, words in one language, scripts by kind."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """Elements with their attributes, the words of ``language``, scripts, islands and clips.

    Meanings of terms (tooltips) are left out of the words: they stand in the glossary as well.
    """

    def __init__(self, html: str, language: str = "en") -> None:
        super().__init__(convert_charrefs=True)
        self.language = language
        self.elements, self.shown, self.scripts, self.islands = [], [], [], {}
        self._script = None
        self._hidden = 0
        self.feed(html)
        self.text = " ".join(" ".join(self.shown).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.elements.append((tag, attrs))
        if tag == "script":
            self._script = attrs
        if tag == "span" and self._hidden:
            self._hidden += 1
        elif tag == "span":
            other = attrs.get("class") == "t" and attrs.get("lang") != self.language
            self._hidden = int(other or attrs.get("class") in ("tip", "k"))

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None
        if tag == "span" and self._hidden:
            self._hidden -= 1

    def handle_data(self, data):
        if self._script is None:
            if not self._hidden:
                self.shown.append(data)
        elif self._script.get("type") == "application/gzip":
            self.clips = json.loads(gzip.decompress(base64.b64decode(data)))["clips"]
        elif self._script.get("type") == "application/json":
            self.islands[self._script["id"]] = json.loads(data)
        else:
            self.scripts.append(data)


def part(html: str, name: str) -> str:
    """The HTML of one of the five parts."""
    return html.split(f'<section id="{name}"')[1].split("</section>")[0]
