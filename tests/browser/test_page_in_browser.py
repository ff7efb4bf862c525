"""The whole page in a browser with the network blocked: languages, themes, paper, access."""

from pathlib import Path

import pytest
from support import browser as browser_module

pytestmark = pytest.mark.browser

AXE = (Path(browser_module.__file__).parent / "axe" / "axe.min.js").read_text(encoding="utf-8")
DRAWN = "document.documentElement.dataset.fonts"


@pytest.fixture
def open_page(browser, page):
    tabs = []

    def opened(fragment="", at=None, **settings):
        tab = browser.open(at or page, fragment, **settings)
        tabs.append(tab)
        tab.wait(DRAWN)
        return tab

    yield opened
    for tab in tabs:
        tab.close()


def test_a_request_and_an_error_would_be_noticed(browser, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='http://example.invalid/a.png'><script>console.error('no')</script>")
    tab = browser.open(page)
    assert tab.requests == ["http://example.invalid/a.png"] and "no" in tab.console
    tab.close()


@pytest.mark.parametrize("size", [(1366, 768), (360, 740)])
def test_no_request_leaves_and_the_console_is_silent(open_page, size):
    tab = open_page(size=size)
    assert tab.requests == [] and tab.console == []


def test_the_language_is_switched_and_the_link_remembers_it(open_page):
    tab = open_page()
    title = (
        "[...document.querySelectorAll('#clips-title .t')].find((n) => n.checkVisibility()).lang"
    )
    assert tab.run(title) == "en"
    tab.run("document.getElementById('language').click()")
    assert tab.run(title) == "ko" and tab.run("document.documentElement.lang") == "ko"
    assert tab.run("document.getElementById('clips-sort').options[0].label") == "ID 해시순"
    again = open_page(tab.run("location.hash"))
    assert again.run(title) == "ko"


def test_the_theme_follows_the_reader_and_can_be_switched(open_page):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = open_page(), open_page(dark=True)
    assert light.run(ground) != dark.run(ground)
    light.run("document.getElementById('theme').click()")
    assert light.run(ground) == dark.run(ground)


def test_everything_that_can_be_used_is_reached_by_keyboard(open_page):
    tab = open_page()
    reached = set()
    for _ in range(60):
        tab.press("Tab")
        reached.add(tab.run("document.activeElement.id || document.activeElement.hash"))
    wanted = {"language", "theme", "clips-next", "clips-q", "clips-sort", "clips-play"}
    assert wanted <= reached


# ---- Figures.


def test_a_figure_is_drawn_for_the_room_it_has(open_page):
    shown = """[...document.querySelectorAll('.chart .plot')]
      .filter((n) => n.checkVisibility()).map((n) => n.className)"""
    assert set(open_page(size=(1366, 768)).run(shown)) == {"plot wide"}
    assert set(open_page(size=(360, 740)).run(shown)) == {"plot narrow"}


def test_a_focus_brings_one_projector_to_the_front_and_a_key_hides_it(open_page):
    tab = open_page()
    label = tab.run("document.querySelector('tr[data-p]').dataset.p")
    tab.run(
        """{ const bar = document.querySelector('#figure-intervals .wide [data-p]');
        bar.dispatchEvent(new PointerEvent('pointerover', { bubbles: true })); }"""
    )
    first = tab.run("document.querySelector('#figure-intervals .wide .on').dataset.p")
    assert label and first
    told = "document.querySelector('#tip').textContent"
    tip = "document.querySelector('#figure-intervals .wide [data-tip]')"
    tab.run(f"{tip}.dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true }}))")
    assert tab.run(told) == tab.run(f"{tip}.dataset.tip")
