"""A browser, and the page of the made-up study of tests/report."""

from __future__ import annotations

import pytest
from support.browser import CHROMIUM, Browser
from support.made_study import make_study


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    found = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The page of a study with hostile text, whose facts are known as the demo's are."""
    study = make_study(tmp_path_factory.mktemp("browser-study"), facts=True)
    study.report()
    return study.root / "report.html"
