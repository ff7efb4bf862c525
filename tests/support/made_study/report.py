"""A made-up study with its tables and a way to render its page."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from support.made_study.folder import write_study
from support.made_study.texts import HOSTILE, jpeg

HOUSE = Path(__file__).parents[3]


def make_study(root: Path, template: Path | None = None, **size) -> SimpleNamespace:
    """Write a study of this size under ``root`` and build its tables; ``report()`` renders it."""
    from siglip_study.report.gallery import GallerySettings
    from siglip_study.report.page import write_report
    from siglip_study.report.tables import build_tables

    cells = write_study(root, **size)
    build_tables(root, cells)
    pictures = [jpeg(index) for index in range(4)]

    def report(**changes) -> str:
        given = {
            "title": "Which projector?",
            "config": {"captions": {"prompt": "이 영상을 <설명>"}, "hostile": HOSTILE},
            "provenance": {
                "command": "snakemake --cores 1",
                "git_commit": "0" * 40,
                "versions": {"torch": "2.13.0"},
                "note": HOSTILE,
            },
            "gallery": GallerySettings(frames=lambda clip: pictures),
            **changes,
        }
        write_report(root, template or HOUSE / "report", root / "report.html", **given)
        return (root / "report.html").read_text(encoding="utf-8")

    return SimpleNamespace(house=HOUSE, root=root, cells=cells, report=report, pictures=pictures)
