"""What axe-core finds in the page, with all that is folded opened: nothing."""

from pathlib import Path

import pytest
from support import browser as browser_module

pytestmark = pytest.mark.browser

AXE = (Path(browser_module.__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ALL = {"type": "tag", "values": TAGS}


def only(*rules):
    return {"type": "rule", "values": list(rules)}


@pytest.mark.parametrize(
    ("size", "dark", "asked"),
    [
        ((1366, 768), False, ALL),
        # What another theme and another width can change.
        ((1366, 768), True, only("color-contrast", "link-in-text-block")),
        ((360, 740), False, only("target-size", "scrollable-region-focusable")),
    ],
)
def test_nothing_stands_in_a_readers_way(browser, page, size, dark, asked):
    tab = browser.open(page, size=size, dark=dark)
    tab.wait("document.getElementById('clips-list').dataset.ready")
    tab.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    tab.run(AXE + ";0")
    found = tab.run(
        f"axe.run({{runOnly: {asked}}}).then(({{violations}}) => violations.map((found) =>"
        " found.id + ': ' + found.nodes.map((node) => node.target.join(' ')).join(', ')))"
    )
    assert found == []
    tab.close()
