"""How far a study has come: cells done, to do, and the time they will take."""

from __future__ import annotations

import json
from pathlib import Path

from siglip_study.study.grid import Study, chosen_cells, read_choice


def _milestones(study: Study) -> dict[str, list[Path]]:
    """Kind of job → the JSON files whose presence says that such a job is done."""
    cells = [*study.tuning, *study.controls]
    if study.paths.selection.exists():
        choice = study.still_there(read_choice(study.paths.selection))
        cells += study.reported(chosen_cells(choice))
    else:
        # Which cells are chosen is not known yet; how many there will be is.
        first = {cell.label: cell.name for cell in reversed(study.tuning)}
        cells += study.reported(first.values())
    paths = study.paths
    stage1 = dict.fromkeys(cell.stage1_name for cell in cells if cell.has_stage1)
    return {
        "stage 1": [paths.stage1(name) / "stage.json" for name in stage1],
        "stage 2": [paths.run(cell.name) / "cell.json" for cell in cells],
        "captions": [paths.run(cell.name) / "captions.json" for cell in cells],
    }


def progress_line(study: Study) -> str:
    """For example ``cell 7 of 22, about 4 min to go``; a trained cell is done."""
    remaining, known = 0.0, True
    milestones = _milestones(study)
    for files in milestones.values():
        finished = [path for path in files if path.exists()]
        seconds = [told for path in finished if (told := _seconds(path)) is not None]
        if seconds:
            remaining += (len(files) - len(finished)) * sum(seconds) / len(seconds)
        elif files:
            known = False
    cells = milestones["stage 2"]
    done, total = sum(path.exists() for path in cells), len(cells)
    eta = f", about {max(1, round(remaining / 60))} min to go" if known else ""
    return f"cell {min(done + 1, total)} of {total}{eta}"


def _seconds(path: Path) -> float | None:
    """What a finished job took; None where its file does not tell, which its readers do."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    value = body.get("wall_s") if isinstance(body, dict) else None
    return float(value) if isinstance(value, int | float) else None
