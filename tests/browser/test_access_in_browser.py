"""What axe-core finds in the page, with all that is folded opened: nothing."""

import pytest
from support.whole_page import ALL, COLOURS, READY, only, violations

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(
    ("size", "dark", "asked"),
    [
        ((1366, 768), False, ALL),
        ((1366, 768), True, COLOURS),
        # What another width can change.
        ((360, 740), False, only("target-size", "scrollable-region-focusable")),
    ],
)
def test_nothing_stands_in_a_readers_way(browser, page, size, dark, asked):
    tab = browser.open(page, size=size, dark=dark)
    tab.wait(READY)
    assert violations(tab, asked) == []
    tab.close()
