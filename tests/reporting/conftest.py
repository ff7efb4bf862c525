"""One made-up study for all tests of the report: written, tabulated and rendered once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

HOUSE = Path(__file__).parents[2]


def load_fake_results() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "fake_results", HOUSE / "tests" / "reporting" / "fake_results.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_study(root: Path, template: Path | None = None, **size) -> SimpleNamespace:
    from siglip_study.reporting.gallery import GallerySettings
    from siglip_study.reporting.page import write_report
    from siglip_study.reporting.tables import build_tables

    fake = load_fake_results()
    cells = fake.write_fake_results(root, **size)
    build_tables(root, cells)
    pictures = [fake.jpeg(index) for index in range(4)]

    def report(**changes) -> str:
        given = {
            "title": "Which projector?",
            "config": {"captions": {"prompt": "이 영상을 <설명>"}, "hostile": fake.HOSTILE},
            "provenance": {
                "command": "snakemake --cores 1",
                "git_commit": "0" * 40,
                "versions": {"torch": "2.13.0"},
                "note": fake.HOSTILE,
            },
            "gallery": GallerySettings(frames=lambda clip: pictures),
            **changes,
        }
        write_report(root, template or HOUSE / "report", root / "report.html", **given)
        return (root / "report.html").read_text(encoding="utf-8")

    return SimpleNamespace(
        house=HOUSE, root=root, cells=cells, fake=fake, report=report, pictures=pictures
    )


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def page(study):
    return study.report()


@pytest.fixture(scope="session", name="make_study")
def _make_study():
    return make_study
