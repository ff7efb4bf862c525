"""The published tables: what the page shows, as Parquet and CSV beside it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path, read_parquet, write_parquet
from siglip_study.config.axes import EPOCHS, RATE
from siglip_study.ranking.gate import GateThresholds, GateVerdict
from siglip_study.ranking.procedure import Ranking, read_ranking
from siglip_study.ranking.selection import StudySelection, read_selection
from siglip_study.report import schema
from siglip_study.report.comparisons import metric_rows, sensitivity_rows
from siglip_study.report.controls import control_rows, gate_controls, join_draws
from siglip_study.report.evidence import SHARES, pair_views, run_views, variance_figures
from siglip_study.report.ledger import ledger_rows
from siglip_study.report.results import (
    CellResult,
    chosen_text,
    mean,
    only,
    read_cells,
    report_runs,
    settings_json,
)
from siglip_study.report.text_tables import pairs_tex, ranking_tex
from siglip_study.report.wording.gate import gate_explained, stamps
from siglip_study.scoring.score_files import read_clips, read_metrics
from siglip_study.study.cells import HELD_OUT
from siglip_study.study.paths import Paths

#: Sizes of a run that go beside its score.
_SIZES = ("tokens_per_video", "projector_parameters", "lora_parameters")
#: Metrics of the ``ranking`` table that have a column of the human captions, D aside.
_BESIDE_HUMAN = (
    "siglip_cosine",
    "meteor_gain",
    "retrieval_r1",
    "effective_captions",
    "top_cluster_share",
)


def build_tables(
    results: Path, cells: dict[str, list[str]], thresholds: GateThresholds | None = None
) -> None:
    """Write every table of :data:`schema.TABLES` under ``tables/`` as ``.parquet`` and ``.csv``,
    and the ranking and its pairs as ``.tex``.

    Args:
        results: output folder of the study; ``tables/ranking.json`` and ``tables/selection.json``
            must be there already.
        cells: role → names of its cells, the untrained ``references`` and ``retrieval`` included.
        thresholds: of the gate that judges the controls; its defaults if absent.

    Raises:
        StudyError: an input is missing, follows another schema or contradicts another input.
    """
    results = Path(results)
    ranking = read_ranking(results / "tables" / "ranking.json")
    selection = read_selection(results / "tables" / "selection.json")
    found = read_cells(results, cells)
    listed = [own for cell in found for own in (cell, *cell.halves)]
    clips = _clips(results, listed)
    judged = gate_controls(found, clips, thresholds)
    tables = {
        "ranking": schema.frame("ranking", _ranking_rows(found, ranking, selection)),
        "cells": schema.frame("cells", _cell_rows(listed, ranking, selection, judged)),
        "clips": clips,
        "controls": schema.frame(
            "controls", control_rows(join_draws(found, clips), ranking, judged)
        ),
        "pairs": schema.frame("pairs", _pair_rows(ranking)),
        "runs": schema.frame("runs", _run_rows(ranking, found)),
        "variance": schema.frame("variance", _variance_rows(ranking)),
        "ledger": schema.frame("ledger", ledger_rows(found, selection)),
        "sensitivity": schema.frame("sensitivity", sensitivity_rows(found, ranking)),
        "metrics": schema.frame("metrics", metric_rows(found)),
        "rejected": schema.conform("rejected", read_parquet(results / "data" / "rejected.parquet")),
    }
    for name, table in tables.items():
        write_parquet(results / "tables" / f"{name}.parquet", table)
        with atomic_path(results / "tables" / f"{name}.csv") as partial:
            table.write_csv(partial)
    papers = {
        "ranking": ranking_tex(tables["ranking"].to_dicts(), ranking.can_rank),
        "pairs": pairs_tex(tables["pairs"].to_dicts()),
    }
    for name, text in papers.items():
        with atomic_path(results / "tables" / f"{name}.tex") as partial:
            partial.write_text(text, encoding="utf-8")


def read_table(results: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a published table.

    Raises:
        StudyError: the table was not built, or its columns are not those of the schema.
    """
    path = results / "tables" / f"{name}.parquet"
    table = read_parquet(path)
    if table.columns != list(schema.TABLES[name]):
        raise StudyError(
            f"{path}: has columns {', '.join(table.columns)}; "
            f"expected {', '.join(schema.TABLES[name])}."
        )
    return table.to_dicts()


def _ranking_rows(
    cells: list[CellResult], ranking: Ranking, selection: StudySelection
) -> list[dict[str, Any]]:
    references = only(cells, "references")
    reports = report_runs(cells)
    cleared = ranking.retrieval.cleared_by if ranking.retrieval else None
    rows = []
    for entry in ranking.projectors:
        label = entry.projector
        runs = reports.get(label, [])
        row: dict[str, Any] = {
            "projector": label,
            "ranked": entry.ranked,
            "rank_low": entry.rank_low,
            "rank_high": entry.rank_high,
            "gate": entry.gate.verdict,
            "gate_reason": gate_explained(entry.gate).en,
            "stamps": ", ".join(stamp.en for stamp in stamps(entry.gate)),
            "standardised_margin": entry.mean_margin,
            "standardised_margin_low": entry.low,
            "standardised_margin_high": entry.high,
            "bar": entry.bar,
            "grounding_margin": entry.mean_cosine,
            "interval_basis": entry.interval_basis,
            "seed_sd": entry.seed_sd,
            "n_seeds": len(runs),
            "shuffled_gap": mean([c.gap("shuffled_gap") for c in runs]),
            "reversed_gap": mean([c.gap("reversed_gap") for c in runs]),
            "clears_retrieval": None if cleared is None else label in cleared,
            "chosen_cell": chosen_text(selection, label),
            **{key: mean([c.cost(key) for c in runs]) for key in schema.COSTS},
            **{key: runs[0].run.get(key) if runs else None for key in _SIZES},
            **{metric: mean([c.value(metric) for c in runs]) for metric in _BESIDE_HUMAN},
        }
        for metric in ("standardised_margin", "grounding_margin", *_BESIDE_HUMAN):
            row[f"reference_{metric}"] = references.value(metric) if references else None
        rows.append(row)
    # Best first; where ranks cannot be told apart the order is that of the point estimate alone.
    # Where the scorer cannot tell, D is no order at all, not even of point estimates.
    sign = -1 if ranking.scorer is None or ranking.scorer.can_tell else 0
    return sorted(
        rows,
        key=lambda r: (not r["ranked"], sign * (r["standardised_margin"] or 0.0), r["projector"]),
    )


def _cell_rows(
    cells: list[CellResult],
    ranking: Ranking,
    selection: StudySelection,
    gates: dict[str, GateVerdict],
) -> list[dict[str, Any]]:
    verdicts = {entry.projector: entry.gate.verdict for entry in ranking.projectors}
    tuned = {
        run: (tuning, tuning.cell in own.reports.values())
        for own in selection.projectors.values()
        for tuning in own.cells
        for run in tuning.runs or (tuning.cell,)
    }
    rows = []
    for cell in cells:
        told, chosen = tuned.get(cell.name, (None, None))
        collapsed = None
        if cell.role == "report":
            collapsed = verdicts.get(cell.projector or "") == "collapsed"
        elif cell.name in gates:
            collapsed = gates[cell.name].verdict == "collapsed"
        elif told:
            collapsed = "collapsed" in (told.gate, told.run_gate(cell.name))
        row: dict[str, Any] = {
            "cell": cell.name,
            "projector": cell.projector,
            "role": cell.role,
            "seed": cell.seed,
            "learning_rate": told.learning_rate if told else cell.key(RATE),
            "epochs": told.epochs if told else cell.key(EPOCHS),
            "settings": settings_json(selection, cell),
            "chosen": chosen,
            "collapsed": collapsed,
            # Two trainings stand in rows of their own with what they took.
            **{key: None if cell.halves else cell.cost(key) for key in schema.COSTS},
            "loss_matched": (cell.metrics.get("losses") or {}).get("matched"),
            "grounding_margin_low": cell.value("grounding_margin", "low"),
            "grounding_margin_high": cell.value("grounding_margin", "high"),
            **{metric: cell.value(metric) for metric in schema.METRICS},
        }
        for key in ("split", "n_clips", "n_empty", "truncated_share"):
            row[key] = cell.metrics.get(key)
        for gap in ("shuffled_gap", "reversed_gap"):
            for part, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
                row[gap + suffix] = cell.gap(gap, part)
        for key in (*_SIZES, "device", "peak_gpu_gb", "stage1_cell", "git_commit"):
            row[key] = cell.run.get(key)
        rows.append(row)
    return rows


def _clips(results: Path, cells: list[CellResult]) -> pl.DataFrame:
    parts = []
    for cell in cells:
        folder = Paths(results).run(cell.name)
        path, table = folder / "clips.parquet", read_clips(folder, read_metrics(folder))
        if "half" in table.columns:
            table = table.with_columns(split="half")
        # A training that reports one half has been scored on both.
        if cell.metrics.get("split") in HELD_OUT:
            table = table.filter(pl.col("split") == cell.metrics["split"])
        if set(table["cell"].unique()) - {cell.name}:
            raise StudyError(f"{path}: has rows of other cells; expected only {cell.name!r}.")
        table = table.with_columns(
            pl.lit(cell.projector, dtype=pl.String).alias("projector"),
            pl.lit(cell.role).alias("role"),
            pl.lit(cell.seed, dtype=pl.Int64).alias("seed"),
        )
        parts.append(schema.conform("clips", table))
    return pl.concat(parts) if parts else schema.frame("clips", [])


def _pair_rows(ranking: Ranking) -> list[dict[str, Any]]:
    return [{**asdict(view.test), "better": view.better} for view in pair_views(ranking)]


def _run_rows(ranking: Ranking, cells: list[CellResult]) -> list[dict[str, Any]]:
    rows = []
    for own in run_views(ranking, cells):
        row: dict[str, Any] = {"projector": own.run.projector, "cell": own.cell.name}
        row |= {"seed": own.cell.seed, "gate": own.gate}
        row |= {metric: own.cell.value(metric) for metric in ("effective_captions", "sentences")}
        for metric in ("standardised_margin", *SHARES):
            for part, value in own.cell.figure(metric).items():
                row[metric if part == "value" else f"{metric}_{part}"] = value
        rows.append(row)
    return rows


def _variance_rows(ranking: Ranking) -> list[dict[str, Any]]:
    return [{"metric": metric, **asdict(parts)} for metric, parts in variance_figures(ranking)]
