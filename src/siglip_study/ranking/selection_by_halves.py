"""Choose each projector's cell on either half of one held-out split, for the other half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from siglip_study.base.io import write_json
from siglip_study.ranking.crossfit import choose_by_fold
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.selection import worse
from siglip_study.ranking.selection_file import tuned_cells
from siglip_study.study.cells import Cell
from siglip_study.study.grid import SELECTION_SCHEMA


def select_by_halves(
    cells: Sequence[Cell],
    folders: Mapping[str, Sequence[Path]],
    references: Mapping[str, Path],
    thresholds: GateThresholds,
    out: Path,
) -> None:
    """Choose on each half for the other and write ``selection.json``.

    ``projectors`` sums up: ``reports`` says which cell reports which half, ``chosen`` is null where
    they differ, figures are means over the halves, and the gate's word on a cell is the worse of
    the two: it counts as collapsed if it did on either. ``halves`` holds what each half chose, by
    the half that chose.

    Args:
        cells: the tuning cells.
        folders: half → their scores on it, in the order of ``cells``.
        references: half → the scores of the human captions on it.
        thresholds: of the gate.
        out: the JSON file.
    """
    names = tuple(folders)
    on = [tuned_cells(cells, folders[half], references[half], thresholds) for half in names]
    choices = choose_by_fold(on[0], on[1])
    joined = [
        replace(
            a,
            mean_margin=(a.mean_margin + b.mean_margin) / 2,
            gate=worse(a.gate, b.gate),
            gate_reason=(a if worse(a.gate, b.gate) == a.gate else b).gate_reason,
        )
        for a, b in zip(*on, strict=True)
    ]
    rows = {}
    for label, choice in choices.items():
        own = tuple(cell for cell in joined if cell.projector == label)
        rows[label] = {
            "chosen": choice.cells[0] if choice.agree else None,
            "mean_margin": sum(fold.mean_margin for fold in choice.folds) / 2,
            "n_cells": len(own),
            "gate": worse(choice.folds[0].gate, choice.folds[1].gate),
            "n_collapsed": sum(cell.gate == "collapsed" for cell in own),
            "n_category_only": sum(cell.gate == "category_only" for cell in own),
            "passed_over": sorted({name for fold in choice.folds for name in fold.passed_over}),
            "cells": [asdict(cell) for cell in own],
            "reports": {half: choice.reporter(place) for place, half in enumerate(names)},
        }
    halves = {
        half: {label: asdict(choice.folds[place]) for label, choice in choices.items()}
        for place, half in enumerate(names)
    }
    write_json(out, {"projectors": rows, "halves": halves}, SELECTION_SCHEMA)
