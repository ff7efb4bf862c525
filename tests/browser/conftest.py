"""The page of the made-up study of tests/report."""

from __future__ import annotations

import pytest
from support.made_study import make_study


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """The page of a study with hostile text, whose facts are known as the demo's are."""
    study = make_study(tmp_path_factory.mktemp("browser-study"), facts=True)
    study.report()
    return study.root / "report.html"
