"""What any page must do in a browser, whatever study it is of."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from support import browser as browser_module

AXE = (Path(browser_module.__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
READY = "document.getElementById('clips-list').dataset.ready"
TITLES = "[...document.querySelectorAll('.clip:not([hidden]) h3')].map((n) => n.textContent)"
SEEN = "[...document.querySelectorAll('.t')].filter((n) => n.checkVisibility())"
LANGUAGES = f"[...new Set({SEEN}.map((n) => n.getAttribute('lang')))]"
OPEN_ALL = "document.querySelectorAll('details').forEach((node) => { node.open = true; })"
GROUND = "getComputedStyle(document.body).backgroundColor"


def only(*rules: str) -> dict[str, Any]:
    """Some of axe-core's rules."""
    return {"type": "rule", "values": list(rules)}


ALL = {"type": "tag", "values": TAGS}
#: What another theme can change.
COLOURS = only("color-contrast", "link-in-text-block")


def violations(tab: Any, asked: dict[str, Any]) -> list[str]:
    """What axe-core finds by the rules asked for, with all that is folded opened."""
    tab.run(OPEN_ALL)
    tab.run(AXE + ";0")
    return tab.run(
        f"axe.run({{runOnly: {json.dumps(asked)}}})"
        ".then(({violations}) => violations.map((found) =>"
        " found.id + ': ' + found.nodes.map((node) => node.target.join(' ')).join(', ')))"
    )


def check_whole_page(browser: Any, page: Path) -> None:
    """Languages, themes, keys, search, links, phone, paper, no scripts, access, no request."""
    tab = browser.open(page)
    tab.wait(READY)

    # Language and theme, remembered in the link where they are to be.
    assert tab.run(LANGUAGES) == ["en"]
    tab.run("document.getElementById('language').click()")
    assert tab.run(LANGUAGES) == ["ko"]
    light = tab.run(GROUND)
    tab.run("document.getElementById('theme').click()")
    assert tab.run(GROUND) != light

    # Search over all clips, by keys, and the link to what was found.
    tab.run("document.getElementById('clips-next').focus()")
    first = tab.run(TITLES)
    tab.press("ArrowRight")
    further = tab.run(TITLES)
    assert not set(first) & set(further)
    wanted = further[-1]
    tab.run(
        "(() => { const field = document.getElementById('clips-q');"
        f" field.value = {json.dumps(wanted)}; field.dispatchEvent(new Event('input')); }})()"
    )
    assert tab.run(TITLES) == [wanted]
    again = browser.open(page, tab.run("location.hash"))
    again.wait(READY)
    assert again.run(TITLES) == [wanted] and again.run(LANGUAGES) == ["ko"]
    assert len(re.findall(rb"/Type\s*/Page\b", again.pdf())) <= 12

    # A phone, and a reader without scripts.
    phone = browser.open(page, size=(360, 740))
    phone.wait(READY)
    phone.run(OPEN_ALL)
    assert phone.run("document.documentElement.scrollWidth") <= 360
    plain = browser.open(page, scripts=False)
    assert len(plain.run(TITLES)) == 3

    # Access in both themes.
    bright, dark = browser.open(page), browser.open(page, dark=True)
    for one, asked in ((bright, ALL), (dark, COLOURS)):
        one.wait(READY)
        assert violations(one, asked) == []
    for one in (tab, again, phone, plain, bright, dark):
        assert one.requests == []
        assert one.console == []
        one.close()
