"""The report in a real browser with the network blocked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the PATH"),
]


class Visit:
    """What a headless browser made of a page: its DOM, console messages and requests."""

    def __init__(self, page: Path, folder: Path, *flags: str, fragment: str = "") -> None:
        assert BROWSER is not None
        net = folder / "net.json"
        done = subprocess.run(
            [
                BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
                "--enable-logging=stderr", f"--log-net-log={net}", "--virtual-time-budget=20000",
                "--dump-dom", *flags, page.as_uri() + fragment,
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        self.dom = done.stdout
        self.console = re.findall(
            r"CONSOLE[^\]]*\] \"(.*?)\", source", done.stderr, flags=re.DOTALL
        )
        log = json.loads(net.read_text(encoding="utf-8"))
        names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
        # The browser's own errands have no origin; whatever a page asks for has one.
        self.requests = [
            event["params"]["url"]
            for event in log["events"]
            if names[event["type"]] == "URL_REQUEST_START_JOB"
            and event["params"].get("initiator") not in (None, "not an origin")
            and event["params"].get("url", "").startswith(("http", "ws"))
        ]


@pytest.fixture(scope="module")
def visit(browser_study, tmp_path_factory):
    return Visit(browser_study.root / "report.html", tmp_path_factory.mktemp("visit"))


def test_a_request_would_be_noticed(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<img src='http://example.invalid/a.png'><script>console.error('no')</script>")
    seen = Visit(page, tmp_path)
    assert seen.requests == ["http://example.invalid/a.png"] and "no" in seen.console


def test_no_request_leaves_and_the_console_is_silent(visit):
    assert visit.requests == []
    assert visit.console == []


def test_charts_are_drawn_after_the_fonts_came(visit):
    html = re.search(r"<html[^>]*>", visit.dom)[0]
    assert 'data-drawn="11"' in html and 'data-fonts="2"' in html
    charts = re.findall(r'<div id="chart-([\w-]+)".*?</figure>', visit.dom, flags=re.DOTALL)
    assert len(charts) == 11
    for part in re.findall(r'<div id="chart-.*?</figure>', visit.dom, flags=re.DOTALL):
        assert "<svg" in part and part.count("<path") > 5
    assert "could not be drawn" not in visit.dom.split("<script")[0]


def test_gallery_shows_hostile_captions_as_text(visit, browser_study):
    body = visit.dom.split('<script type="application/json"')[0]
    assert '<img src="x"' not in body and "onerror=alert(1)&gt;" in body
    assert body.count('<article class="clip">') == 12
    assert 'src="data:image/jpeg;base64,' in body and "빨간" in body


ACTIONS = """
const out = {};
const cards = () => [...document.querySelectorAll(".clip h3")].map((node) => node.textContent);
const change = (id, value, kind) => {
  const node = document.getElementById(id);
  node.value = value;
  node.dispatchEvent(new Event(kind));
};
const wait = setInterval(() => {
  if (!document.documentElement.dataset.drawn) return;
  clearInterval(wait);
  out.first = cards();
  document.getElementById("gallery-more").click();
  out.all = cards().length;
  change("gallery-search", "CLIP_0003", "input");
  out.searched = cards();
  change("gallery-search", "", "input");
  const orders = [...document.getElementById("gallery-sort").options];
  change("gallery-sort", orders.at(-1).value, "change");
  out.sorted = cards();
  const options = [...document.getElementById("curve-select").options];
  change("curve-select", options.at(-1).value, "change");
  out.legend = document.querySelectorAll("#curve-legend li").length;
  document.getElementById("theme").click();
  setTimeout(() => {
    out.charts = document.querySelectorAll(".vega svg").length;
    out.theme = document.documentElement.dataset.theme;
    const node = document.createElement("pre");
    node.id = "outcome";
    node.textContent = JSON.stringify(out);
    document.body.append(node);
  }, 3000);
}, 50);
"""


def test_search_sort_paging_selector_and_theme_work(browser_study, tmp_path):
    html = (browser_study.root / "report.html").read_text(encoding="utf-8")
    # A script of the test's own needs a policy that lets it run.
    html = re.sub(
        "script-src .*?; style-src", "script-src 'unsafe-inline'; style-src", html, count=1
    )
    page = tmp_path / "acted.html"
    before, end, after = html.rpartition("</body>")  # the Vega bundle names that tag as well
    page.write_text(f"{before}<script>{ACTIONS}</script>{end}{after}", encoding="utf-8")
    seen = Visit(page, tmp_path)
    found = re.search(r'<pre id="outcome">(.*?)</pre>', seen.dom)
    assert found is not None and seen.console == []
    out = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert len(out["first"]) == 12 and out["all"] == 24
    assert out["searched"] == ["clip_0003"]
    assert len(out["sorted"]) == 12 and out["sorted"] != out["first"]
    assert out["legend"] == 1 and out["charts"] == 11 and out["theme"] == "dark"


def test_dark_theme_and_a_phone_draw_too(browser_study, tmp_path):
    seen = Visit(
        browser_study.root / "report.html", tmp_path, "--window-size=500,900", fragment="#dark"
    )
    assert 'data-theme="dark"' in seen.dom and 'data-drawn="11"' in seen.dom
    assert seen.console == [] and seen.requests == []
