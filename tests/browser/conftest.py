"""The made-up study of tests/reporting, for a browser to open."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def browser_study(tmp_path_factory):
    path = Path(__file__).parents[1] / "reporting" / "conftest.py"
    spec = importlib.util.spec_from_file_location("reporting_conftest", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    study = module.make_study(tmp_path_factory.mktemp("browser-study"))
    study.report()
    return study
