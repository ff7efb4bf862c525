"""The whole folder: data, every captioner, selection and ranking."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from siglip_study.base.io import write_parquet
from siglip_study.ranking.procedure import write_ranking
from siglip_study.ranking.selection import (
    Selection,
    StudySelection,
    TuningCell,
    select_cells,
    write_selection,
)
from support.made_study.captioner import Bench, Captioner, write_captioner
from support.made_study.figures import HUMAN_MARGIN, PROJECTORS, TRUTH, skill_of
from support.made_study.ranking import made_ranking
from support.made_study.texts import HOSTILE, HOSTILE_ID, caption


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
) -> dict[str, list[str]]:
    """Write every file the report reads under ``root``; returns role → cells."""
    rng = np.random.default_rng(0)
    ids = [HOSTILE_ID, *(f"clip_{i:04d}" for i in range(1, clips))]
    _write_data(root, ids, rng, words)
    bench = Bench(root, ids, rng, steps, words)
    cells: dict[str, list[str]] = {"references": ["references"], "control_retrieval": ["retrieval"]}
    selection: dict[str, Selection] = {}
    for p, label in enumerate(PROJECTORS[:projectors]):
        tuned = _write_tuned(bench, p, label, rates, budgets)
        cells.setdefault("tuning", []).extend(cell.cell for cell in tuned)
        (own,) = select_cells(tuned).values()
        selection[label] = replace(own, reports={"report": str(own.chosen)})
        best = next(cell for cell in tuned if cell.cell == own.chosen)
        for seed in range(1, seeds + 1):
            name = f"{label}_{p:02x}5eed{seed:02x}"
            made = Captioner(
                name,
                "report",
                skill_of(label),
                label,
                seed,
                best.learning_rate,
                best.epochs,
                truth=TRUTH if truth else None,
            )
            write_captioner(bench, made)
            cells.setdefault("report", []).append(name)
    for role, label, collapsed in (
        ("control_hot", "query_perceiver", True),
        ("control_blind", "constant_prefix", True),
        ("control_noise", "linear", False),
    ):
        name = f"{label}_{role[8:].encode().hex()[:8]}"
        write_captioner(bench, Captioner(name, role, 0.0, label, 1, 1e-2, 2, collapsed))
        cells[role] = [name]
    write_captioner(bench, Captioner("references", "references", HUMAN_MARGIN))
    write_captioner(bench, Captioner("retrieval", "control_retrieval", 0.09))
    write_selection(root / "tables/selection.json", StudySelection(selection))
    write_ranking(root / "tables/ranking.json", made_ranking(list(selection), seeds))
    return cells


def _write_tuned(
    bench: Bench, p: int, label: str, rates: tuple[float, ...], budgets: tuple[int, ...]
) -> list[TuningCell]:
    """A projector's tuning cells; those of the third projector and on collapse at the last rate."""
    found = []
    for i, lr in enumerate(rates):
        hot = i == len(rates) - 1 and p >= 2
        skill = 0.0 if hot else skill_of(label)
        for j, epochs in enumerate(budgets):
            name = f"{label}_{p:02x}{i:03x}{j:03x}"
            write_captioner(bench, Captioner(name, "tuning", skill, label, 0, lr, epochs, hot))
            gate = "collapsed" if hot else "grounded"
            found.append(TuningCell(name, label, skill * (1 + 0.1 * j), gate, lr, epochs))
    return found


def _write_data(root: Path, ids: list[str], rng: np.random.Generator, words: int) -> None:
    rows = []
    for i, clip in enumerate(ids):
        rows.append(
            {
                "id": clip,
                "split": "report",
                "group": f"video_{i // 2}",
                "category": "들판" if i % 2 else None,
                "path": f"videos/{clip}.mp4",
                "captions": [HOSTILE if i == 0 else caption(rng, words)],
                "duration_s": 2.0,
                "fps": 12.0,
                "n_frames": 24,
                "width": 96,
                "height": 96,
                "sha256": f"{i:064x}",
            }
        )
    write_parquet(root / "data/manifest.parquet", pl.DataFrame(rows))
    rejected = [{"id": "broken<i>", "path": "videos/broken.mp4", "reason": f"zero bytes {HOSTILE}"}]
    write_parquet(root / "data/rejected.parquet", pl.DataFrame(rejected))
