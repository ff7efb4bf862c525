"""A hundred cells of twelve projectors and a thousand clips: small, soon ready, all of it found."""

import gzip
import json
import re
from base64 import b64decode

import pytest
from support.made_study import make_study

READY = "document.getElementById('clips-list').dataset.ready"
SHOWN = "[...document.querySelectorAll('.clip:not([hidden]) h3')].map((node) => node.textContent)"
# What one change of the search takes until all is laid out, the best of three, in ms.
SEARCHES = """
(() => {
  const field = document.getElementById("clips-q");
  const took = ["clip_0998", "빨간", "clip_0999"].map((words) => {
    field.value = words;
    const began = performance.now();
    field.dispatchEvent(new Event("input"));
    document.body.getBoundingClientRect();
    return performance.now() - began;
  });
  return Math.min(...took);
})()
"""


@pytest.fixture(scope="module")
def large_study(tmp_path_factory):
    size = {"projectors": 12, "clips": 1000, "seeds": 3, "steps": 100, "words": 20}
    rates = tuple(1e-4 * k for k in range(1, 6))
    study = make_study(tmp_path_factory.mktemp("large"), rates=rates, budgets=(1,), **size)
    study.report()
    return study


@pytest.fixture(scope="module")
def tab(browser, large_study):
    tab = browser.open(large_study.root / "report.html")
    tab.wait(READY)
    yield tab
    tab.close()


def test_every_clip_is_in_a_page_of_twelve_megabytes(large_study):
    html = (large_study.root / "report.html").read_text(encoding="utf-8")
    assert sum(map(len, large_study.cells.values())) >= 100
    assert len(html.encode()) <= 12_000_000
    packed = re.search(r'id="packed-clips">([^<]*)<', html)[1]
    clips = json.loads(gzip.decompress(b64decode(packed)))["clips"]
    assert len(clips) == 1000
    assert {len(own) for *_, said in clips for own in said[:12]} == {3}


@pytest.mark.browser
def test_it_is_ready_soon_and_searches_all_of_it_at_once(tab):
    loaded = tab.run("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    took = tab.run(SEARCHES)
    assert tab.run(SHOWN) == ["clip_0999"]
    assert tab.figures()["JSHeapUsedSize"] < 300e6
    # Ten times what is promised of two quiet cores (1.5 s and 150 ms), which a busy machine is not.
    assert loaded < 15_000 and took < 1_500
    assert tab.console == [] and tab.requests == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1366, 700, 360])
def test_a_name_of_120_characters_makes_no_page_wider(browser, large_study, width):
    tab = browser.open(large_study.root / "report.html", size=(width, 740))
    tab.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.close()


@pytest.mark.browser
def test_twelve_projectors_stand_in_one_order_in_every_clip(tab):
    names = (
        "[...document.querySelectorAll('.clip')].map((clip) =>"
        " [...clip.querySelectorAll('.projector b')].map((node) => node.textContent).join())"
    )
    found = tab.run(names)
    assert len(found[0].split(",")) == 12 and len(set(found)) == 1
