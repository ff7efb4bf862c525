"""The made-up study of tests/report, for a browser to open."""

from __future__ import annotations

import pytest
from support.made_study import make_study


@pytest.fixture(scope="session")
def browser_study(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("browser-study"))
    study.report()
    return study
