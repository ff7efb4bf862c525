"""A results folder as the pipeline would leave it, small or large, with hostile text in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl

from siglip_study.base.io import write_json, write_parquet
from siglip_study.data.labels import Rejection
from siglip_study.data.summary import Unused, summarise, write_summary
from siglip_study.ranking.procedure import write_ranking
from siglip_study.ranking.selection import (
    Selection,
    StudySelection,
    TuningCell,
    select_cells,
    write_selection,
)
from support.made_study.captioner import (
    HOSTILE,
    HUMAN_MARGIN,
    Captioner,
    Size,
    caption,
    skill_of,
    write_captioner,
)
from support.made_study.ranking import made_ranking

__all__ = ["HOSTILE", "HOSTILE_ID", "make_study"]

HOUSE = Path(__file__).parents[3]
HOSTILE_ID = "clip-<b>&\"'</b>"
PROJECTORS = (
    "linear",
    "mlp_2l",
    "c_abstractor",
    "query_perceiver",
    "perceiver",
    "query_abstractor",
    *(f"variant_{i}" for i in range(1, 6)),
    "variant_6_".ljust(120, "x"),
)
#: What is true of every other clip, where facts are known.
FACTS = (
    {
        "thing": "ball", "colour": "red", "size": "small", "count": "1",
        "motion": "left", "place": "field", "weather": "rain", "camera": "static",
    },
    {
        "thing": "star", "colour": "blue", "size": "large", "count": "2",
        "motion": "still", "place": "sea", "weather": "rain", "camera": "static",
    },
)  # fmt: skip


def make_study(root: Path, template: Path | None = None, **size) -> SimpleNamespace:
    """Write a study of this size under ``root`` and build its tables; ``report()`` renders it."""
    from siglip_study.report.gallery import GallerySettings
    from siglip_study.report.page import write_report
    from siglip_study.report.pictures import contact_sheet
    from siglip_study.report.tables import build_tables

    cells = write_study(root, **size)
    build_tables(root, cells)
    sheet = contact_sheet(np.stack([_frame(index) for index in range(8)]))

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
            "gallery": GallerySettings(pictures=lambda clip: sheet),
            **changes,
        }
        write_report(root, template or HOUSE / "report", root / "report.html", **given)
        return (root / "report.html").read_text(encoding="utf-8")

    return SimpleNamespace(house=HOUSE, root=root, cells=cells, report=report, sheet=sheet)


def write_study(
    root: Path,
    projectors: int = 4,
    clips: int = 24,
    seeds: int = 2,
    rates: tuple[float, ...] = (1e-3, 3e-3),
    budgets: tuple[int, ...] = (2, 4),
    steps: int = 60,
    truth: bool = True,
    words: int = 9,
    facts: bool = False,
) -> dict[str, list[str]]:
    """Write every file the report reads under ``root``; returns role → cells."""
    ids = [HOSTILE_ID, *(f"clip_{i:04d}" for i in range(1, clips))]
    size = Size(root, ids, np.random.default_rng(0), steps, words)
    _write_data(size)
    if facts:
        write_json(
            root / "demo/facts.json", {clip: FACTS[i % 2] for i, clip in enumerate(ids)}, "facts/1"
        )
    cells: dict[str, list[str]] = {"references": ["references"], "control_retrieval": ["retrieval"]}
    selection: dict[str, Selection] = {}
    for p, label in enumerate(PROJECTORS[:projectors]):
        tuned = _write_tuned(size, p, label, rates, budgets)
        cells.setdefault("tuning", []).extend(cell.cell for cell in tuned)
        (own,) = select_cells(tuned).values()
        selection[label] = replace(own, reports={"report": str(own.chosen)})
        best = next(cell for cell in tuned if cell.cell == own.chosen)
        chosen = best.learning_rate, best.epochs
        for seed in range(1, seeds + 1):
            name = f"{label}_{p:02x}5eed{seed:02x}"
            made = Captioner(name, "report", skill_of(label), label, seed, *chosen, truth=truth)
            write_captioner(size, made)
            cells.setdefault("report", []).append(name)
    for role, label, collapsed in (
        ("control_hot", "query_perceiver", True),
        ("control_blind", "constant_prefix", True),
        ("control_noise", "linear", False),
    ):
        name = f"{label}_{role[8:].encode().hex()[:8]}"
        write_captioner(size, Captioner(name, role, 0.0, label, 1, 1e-2, 2, collapsed))
        cells[role] = [name]
    write_captioner(size, Captioner("references", "references", HUMAN_MARGIN))
    write_captioner(size, Captioner("retrieval", "control_retrieval", 0.09))
    write_selection(root / "tables/selection.json", StudySelection(selection))
    write_ranking(root / "tables/ranking.json", made_ranking(list(selection), seeds))
    return cells


def _write_tuned(
    size: Size, p: int, label: str, rates: tuple[float, ...], budgets: tuple[int, ...]
) -> list[TuningCell]:
    """A projector's tuning cells; those of the third projector and on collapse at the last rate."""
    found = []
    for i, lr in enumerate(rates):
        hot = i == len(rates) - 1 and p >= 2
        skill = 0.0 if hot else skill_of(label)
        for j, epochs in enumerate(budgets):
            name = f"{label}_{p:02x}{i:03x}{j:03x}"
            write_captioner(size, Captioner(name, "tuning", skill, label, 0, lr, epochs, hot))
            gate = "collapsed" if hot else "grounded"
            found.append(TuningCell(name, label, skill * (1 + 0.1 * j), gate, lr, epochs))
    return found


def _write_data(size: Size) -> None:
    ids = size.ids
    captions = [HOSTILE, *(caption(size.rng, size.words) for _ in ids[1:])]
    manifest = pl.DataFrame(
        {
            "id": ids,
            "split": "report",
            "group": [f"video_{i // 2}" for i in range(len(ids))],
            "category": pl.Series(["들판" if i % 2 else None for i in range(len(ids))], dtype=str),
            "path": [f"videos/{clip}.mp4" for clip in ids],
            "captions": [[text] for text in captions],
            "duration_s": 2.0,
            "fps": 12.0,
            "n_frames": 24,
            "width": 96,
            "height": 96,
            "sha256": [f"{i:064x}" for i in range(len(ids))],
        }
    )
    write_parquet(size.root / "data/manifest.parquet", manifest)
    rejected = [{"id": "broken<i>", "path": "videos/broken.mp4", "reason": f"zero bytes {HOSTILE}"}]
    unused = Unused.of([Rejection(**row) for row in rejected], {("category", "list"): 2})
    write_parquet(size.root / "data/rejected.parquet", unused.table())
    write_summary(size.root / "data/summary.json", summarise(manifest, unused))


def _frame(index: int, size: int = 96) -> np.ndarray:
    """One frame ``[size, size, 3]`` that differs from the others."""
    ramp = np.add.outer(np.arange(size), np.arange(size)) % 256
    pixels = [ramp, np.roll(ramp, index * 7, 0), np.full_like(ramp, index * 31 % 256)]
    return np.stack(pixels, -1).astype(np.uint8)
