"""The whole page in a browser with the network blocked: languages, themes, paper, access."""

import re

import pytest

from siglip_study.base.errors import StudyError
from tools.page_pictures import SIZE, draw

pytestmark = pytest.mark.browser

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


def test_the_language_is_switched_everywhere_and_the_link_remembers_it(open_page):
    tab = open_page()
    shown = "[...document.querySelectorAll('.t')].filter((n) => n.checkVisibility())"
    languages = f"[...new Set({shown}.map((n) => n.getAttribute('lang')))]"
    assert tab.run(languages) == ["en"]
    tab.run("document.getElementById('language').click()")
    assert tab.run(languages) == ["ko"]
    assert tab.run("document.documentElement.lang") == "ko"
    assert tab.run("document.getElementById('clips-sort').options[0].label") == "ID 해시순"
    assert "검색" in tab.run("document.querySelector('label:has(#clips-q)').innerText")
    again = open_page(tab.run("location.hash"))
    assert again.run("document.documentElement.lang") == "ko"


def test_tooltips_speak_the_language_of_the_page(open_page):
    tab = open_page("#lang=ko")
    tab.run("document.querySelector('.lines .term').focus({ focusVisible: true })")
    tip = "[...document.activeElement.querySelectorAll('.tip .t')].find((n) => n.checkVisibility())"
    assert tab.wait(f"{tip}?.lang") == "ko"
    mark = "document.querySelector('#figure-intervals .wide [data-ko-tip]')"
    tab.run(f"{mark}.dispatchEvent(new PointerEvent('pointerover', {{ bubbles: true }}))")
    told = "document.querySelector('#tip').textContent"
    assert tab.run(told) == tab.run(f"{mark}.dataset.koTip") != tab.run(f"{mark}.dataset.enTip")


def test_no_english_sentence_is_left_on_the_korean_page(open_page):
    tab = open_page("#lang=ko")
    tab.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    lines = tab.run("document.body.innerText.split('\\n')")
    # Four English words one after the other; commands, the citation and the config are code.
    code = tab.run(
        "[...document.querySelectorAll('pre, code')].map((n) => n.innerText).join('\\n')"
    )
    english = [line for line in lines if re.search(r"([a-z]{2,} ){3}[a-z]{2,}", line)]
    options = tab.run("[...document.querySelectorAll('option')].map((n) => n.textContent)")
    hostile = [line for line in english if "onerror" in line]
    assert set(english) - set(hostile) - set(options) - set(code.split("\n")) == set()


# Which of the five parts is clicked on (none: it is seen at once), where the answer then stands.
QUESTIONS = {
    "which projector": (None, "#headline", "mlp_2l"),
    "how sure": (None, "#figure-intervals .wide", "people"),
    "what it cost": (None, ".lines tr:nth-child(1) td:last-child", "min"),
    "which rate and epochs": (None, ".lines tr:nth-child(1) td:nth-child(10)", "1e-3 × 4"),
    "a caption beside its video": ("clips", ".clip .projector blockquote", ""),
    "why one collapsed": ("runs", "#runs .findings li:last-child", "became alike"),
    "how to reproduce it": ("reproduce", "#commands", "git checkout"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_within_one_click(open_page, question):
    part, place, said = QUESTIONS[question]
    tab = open_page()
    if part is not None:
        tab.run(f"document.querySelector('.top a[href=\"#{part}\"]').click()")
    box = f"document.querySelector('{place}').getBoundingClientRect()"
    assert tab.wait(f"{box}.top >= 0 && {box}.top < innerHeight && {box}.height > 0")
    assert said in tab.run(f"document.querySelector('{place}').textContent")


def test_paper_has_the_first_table_in_lines_and_few_pages(open_page):
    pdf = open_page().pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
    tab = open_page(size=(700, 900))
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle(document.querySelector('.lines tr')).display") == "table-row"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_phone_needs_no_scrolling_sideways_with_all_opened(open_page, language):
    tab = open_page(f"#lang={language}", size=(360, 740))
    tab.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= 360


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


def test_a_projector_is_hidden_and_shown_by_its_key_in_every_figure(open_page):
    tab = open_page()
    key = "document.querySelector('.key button')"
    label = tab.run(f"{key}.dataset.key")
    marks = f"[...document.querySelectorAll('.drawing [data-p=\"{label}\"]')]"
    figures = (
        f"new Set({marks}.filter((n) => n.checkVisibility()).map((n) => n.closest('figure').id))"
    )
    seen = tab.run(f"{figures}.size")
    assert seen >= 6
    tab.run(f"{key}.click()")
    assert tab.run(f"{figures}.size") == 0 and tab.run(f"{key}.ariaPressed") == "false"
    others = "[...document.querySelectorAll('.drawing [data-p]')].some((n) => n.checkVisibility())"
    assert tab.run(others)
    tab.run(f"{key}.click()")
    assert tab.run(f"{figures}.size") == seen


def test_the_first_screen_is_drawn_in_each_language(page, tmp_path):
    from PIL import Image

    english, korean = draw(page, tmp_path)
    assert Image.open(english).size == Image.open(korean).size == SIZE
    assert english.read_bytes() != korean.read_bytes()
    with pytest.raises(StudyError, match="expected the page of a finished study"):
        draw(tmp_path / "none.html", tmp_path)
