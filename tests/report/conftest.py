"""One made-up study for all tests of the report: written, tabulated and rendered once."""

from __future__ import annotations

import pytest
from support.made_study import make_study


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def page(study):
    return study.report()


@pytest.fixture(scope="session", name="make_study")
def _make_study():
    return make_study


@pytest.fixture
def table_file(study):
    """The path of a file of ``tables/``, which may be changed: it is put back after the test."""
    kept = {}

    def take(name):
        path = study.root / "tables" / name
        kept[path] = path.read_bytes()
        return path

    yield take
    for path, content in kept.items():
        path.write_bytes(content)
