"""How far a study has come: trainings and captionings done, to do, and the time they will take."""

from __future__ import annotations

import json
from pathlib import Path

from siglip_study.study.grid import Study, chosen_cells, read_choice


def _milestones(study: Study) -> dict[str, list[Path]]:
    """Kind of job → the JSON files whose presence says that such a job is done."""
    cells = [*study.tuning, *study.controls]
    if study.paths.selection.exists():
        chosen = chosen_cells(read_choice(study.paths.selection))
        # An edited grid may have left a choice behind that is no longer a cell.
        known = {cell.name for cell in study.tuning}
        cells += study.reported(name for name in chosen if name in known)
    else:
        # Which cells are chosen is not known yet; how many there will be is.
        first = {cell.label: cell.name for cell in reversed(study.tuning)}
        cells += study.reported(first.values())
    paths = study.paths
    stage1 = {
        cell.stage1_name: paths.stage1(cell.stage1_name) / "stage.json"
        for cell in cells
        if cell.has_stage1
    }
    return {
        "stage 1": list(stage1.values()),
        "stage 2": [paths.run(cell.name) / "cell.json" for cell in cells],
        "captions": [paths.run(cell.name) / "captions.json" for cell in cells],
    }


def _seconds(path: Path) -> float | None:
    value = json.loads(path.read_text(encoding="utf-8")).get("wall_s")
    return float(value) if value is not None else None


def progress_line(study: Study) -> str:
    """For example ``job 17 of 66, about 4 min to go``; jobs are trainings and captionings."""
    done, total, remaining = 0, 0, 0.0
    known = True
    for files in _milestones(study).values():
        finished = [path for path in files if path.exists()]
        done += len(finished)
        total += len(files)
        seconds = [s for s in map(_seconds, finished) if s is not None]
        if seconds:
            remaining += (len(files) - len(finished)) * sum(seconds) / len(seconds)
        elif files:
            known = False
    eta = f", about {max(1, round(remaining / 60))} min to go" if known and done else ""
    return f"job {min(done + 1, total)} of {total}{eta}"
