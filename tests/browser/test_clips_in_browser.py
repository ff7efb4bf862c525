"""The Clips part, used as a reader uses it: moved on, searched, filtered, linked to, played."""

import json
from urllib.parse import quote

import pytest
from support.made_study import HOSTILE, HOSTILE_ID

pytestmark = pytest.mark.browser

READY = "document.getElementById('clips-list').dataset.ready"
SHOWN = "[...document.querySelectorAll('.clip:not([hidden]) h3')].map((node) => node.textContent)"
POSITION = "document.querySelector('#clips-position .t[lang=en]')?.textContent ?? ''"


@pytest.fixture
def open_clips(browser, page):
    """Opens the page and waits for its clips."""
    tabs = []

    def opened(fragment="", **settings):
        tab = browser.open(page, fragment, **settings)
        tabs.append(tab)
        tab.wait(READY)
        return tab

    yield opened
    for tab in tabs:
        tab.close()


def choose(tab, name, value, event="change"):
    """Choose as a reader does, and say which clips are then shown."""
    tab.run(
        f"(() => {{ const node = document.getElementById('clips-{name}');"
        f" node.value = {json.dumps(value)}; node.dispatchEvent(new Event('{event}')); }})()"
    )
    return tab.run(SHOWN)


def search(tab, words):
    return choose(tab, "q", words, "input")


def click(tab, name):
    tab.run(f"document.getElementById('clips-{name}').click()")
    return tab.run(SHOWN)


# ---- Moving on.


def test_three_clips_are_seen_at_once_and_a_click_moves_on_through_all(open_clips):
    tab = open_clips()
    seen = tab.run(SHOWN)
    assert len(seen) == 3
    while not tab.run("document.getElementById('clips-next').disabled"):
        seen += click(tab, "next")
    assert len(seen) == len(set(seen)) == 24
    assert tab.run(POSITION) == "Clips 22–24 of 24"
    assert click(tab, "previous") == seen[-6:-3]


def test_the_arrow_keys_move_on_but_not_from_within_a_field(open_clips):
    tab = open_clips()
    first = tab.run(SHOWN)
    tab.run("document.getElementById('clips-next').focus()")
    tab.press("ArrowRight")
    second = tab.run(SHOWN)
    assert not set(first) & set(second)
    tab.press("ArrowLeft")
    assert tab.run(SHOWN) == first
    tab.run("document.getElementById('clips-q').focus()")
    tab.press("ArrowRight")
    assert tab.run(SHOWN) == first


def test_a_phone_shows_one_clip_at_a_time(open_clips):
    tab = open_clips(size=(360, 740))
    seen = [*tab.run(SHOWN), *click(tab, "next")]
    assert len(seen) == 2 == len(set(seen))
    assert tab.run("document.documentElement.scrollWidth") <= 360


# ---- Choosing.


def test_search_finds_words_ids_and_sources_wherever_they_are(open_clips):
    tab = open_clips()
    assert search(tab, "CLIP_0003") == ["clip_0003"]
    assert set(search(tab, "video_5")) == {"clip_0010", "clip_0011"}
    search(tab, "빨간 천천히")
    assert tab.run("document.querySelectorAll('.clip:not([hidden]) mark').length") >= 3
    assert search(tab, "no such word") == []
    assert tab.run("document.getElementById('clips-none').checkVisibility()")
    assert len(click(tab, "reset")) == 3


@pytest.mark.parametrize(
    ("name", "value", "least", "most"),
    [
        ("category", "들판", 12, 12),
        ("is", "truncated", 3, 3),
        ("fact", "motion", 1, 24),
        ("sort", "misled", 0, 24),
    ],
)
def test_a_facet_keeps_what_it_says(open_clips, name, value, least, most):
    tab = open_clips()
    choose(tab, name, value)
    assert least <= int((tab.run(POSITION) or "of 0").split()[-1]) <= most


def test_a_facet_asks_of_the_chosen_projector_alone(open_clips):
    tab = open_clips()
    choose(tab, "is", "empty")
    assert tab.run(POSITION).endswith("of 1")
    last = tab.run("document.getElementById('clips-by').options.length - 2")
    choose(tab, "by", str(last))
    assert tab.run(POSITION).endswith("of 1")


def test_clips_on_which_projectors_disagree_come_first(open_clips):
    tab = open_clips()
    assert choose(tab, "sort", "spread") != tab.run(SHOWN)[::-1]
    spread = (
        "[...document.querySelectorAll('.clip:not([hidden])')].map((clip) => {"
        " const all = [...clip.querySelectorAll('.projector .figure')].map((node) =>"
        " Number(node.textContent.replace(/[^0-9.\\u2212]/g, '').replace('\\u2212', '-')));"
        " return Math.max(...all) - Math.min(...all); })"
    )
    found = tab.run(spread)
    assert found == sorted(found, reverse=True)


def test_another_seed_shows_the_same_clips_with_other_captions(open_clips):
    tab = open_clips()
    click(tab, "next")
    clips = tab.run(SHOWN)
    captions = "[...document.querySelectorAll('.voice.projector .said')].map((n) => n.textContent)"
    before = tab.run(captions)
    assert choose(tab, "seed", "1") == clips
    assert tab.run(captions) != before


def test_words_that_are_not_said_of_a_shuffled_clip_are_marked(open_clips):
    tab = open_clips("#clip=clip_0005")
    marked = "document.querySelectorAll('.clip .voice.{} .marked').length"
    assert tab.run(marked.format("projector")) > 0
    # What the collapsed run says of one clip it says of all.
    assert tab.run(marked.format("hot")) == 0
    choose(tab, "mark", "usual")
    assert tab.run(marked.format("hot")) > 0
    choose(tab, "mark", "seeds")
    assert tab.run(marked.format("projector")) > 0 == tab.run(marked.format("hot"))
    choose(tab, "mark", "nothing")
    assert tab.run(marked.format("projector")) == 0


# ---- Links.


def test_a_link_opens_on_its_clip_with_what_was_chosen(open_clips):
    tab = open_clips()
    choose(tab, "sort", "high")
    choose(tab, "seed", "1")
    wanted = click(tab, "next")
    fragment = tab.run("location.hash")
    assert "clip=" in fragment and "sort=high" in fragment and "seed=1" in fragment
    again = open_clips(fragment)
    assert again.run(SHOWN) == wanted
    assert again.run("document.getElementById('clips-sort').value") == "high"


def test_a_link_names_a_clip_whatever_is_in_its_id(open_clips):
    assert open_clips("#clip=" + quote(HOSTILE_ID)).run(SHOWN)[0] == HOSTILE_ID


@pytest.mark.parametrize(
    "fragment", ["#clip=unknown", "#sort=%00&seed=99&q=", "#%E0%A4%A", "#=&=&"]
)
def test_a_link_that_makes_no_sense_opens_on_the_first_clips(open_clips, fragment):
    tab = open_clips(fragment)
    assert len(tab.run(SHOWN)) == 3 and tab.console == []


# ---- Pictures and text.


def test_pictures_play_and_stop(open_clips):
    tab = open_clips()
    moved = "document.querySelector('.sheet.playing img')?.style.transform ?? ''"
    assert tab.run(moved) == ""
    click(tab, "play")
    first = tab.wait(moved)
    tab.wait(f"{moved} !== {json.dumps(first)}")
    click(tab, "play")
    assert tab.run(moved) == ""


def test_hostile_text_is_shown_as_text(open_clips):
    tab = open_clips("#clip=" + quote(HOSTILE_ID))
    text = tab.run("document.getElementById('clips-list').textContent")
    assert HOSTILE in text
    assert (
        tab.run(
            "document.querySelectorAll('#clips-list img:not([src^=\"data:image/webp\"])').length"
        )
        == 0
    )
    assert tab.console == [] and tab.requests == []


def test_captions_say_their_language_and_keep_korean_words_whole(open_clips):
    tab = open_clips()
    quote_of = "[...document.querySelectorAll('.said blockquote')].find((n) => n.lang === 'ko')"
    assert tab.run(f"getComputedStyle({quote_of}).wordBreak") == "keep-all"


def test_without_scripts_three_clips_are_read_and_no_dead_control_is_seen(browser, page):
    tab = browser.open(page, scripts=False)
    assert len(tab.run(SHOWN)) == 3
    assert tab.run("[...document.querySelectorAll('.clip img')].every((n) => n.naturalWidth > 0)")
    assert tab.run("document.querySelector('.clip .facts').checkVisibility()")
    controls = "[...document.querySelectorAll('#clips :is(button, select, input)')]"
    assert not tab.run(f"{controls}.some((node) => node.checkVisibility())")
    tab.close()


def test_paper_has_three_clips_and_no_controls_whatever_the_window_was(open_clips):
    tab = open_clips(size=(360, 740))
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert len(tab.wait(f"{SHOWN}.length === 3 && {SHOWN}")) == 3
    assert not tab.run("document.querySelector('.clips-bar').checkVisibility()")
