"""Columns of the published tables. A column that is named here is in the file, in this order."""

from __future__ import annotations

from typing import Any

import polars as pl

from siglip_study import metrics

TEXT, REAL, WHOLE, FLAG = pl.String, pl.Float64, pl.Int64, pl.Boolean

#: Metrics that get a column of their own in ``cells``; the truncated share stands among counts.
METRICS: tuple[str, ...] = tuple(name for name in metrics.METRICS if name != "truncated_share")

#: What a run took, stage by stage; stage 1 is shared by cells, so its cost is not theirs alone.
#: Counts are real numbers: of two trainings that report a half each they are a mean.
COSTS: dict[str, Any] = {
    "optimizer_steps": REAL,
    "samples_seen": REAL,
    "wall_s": REAL,
    "gpu_s": REAL,
    "stage1_optimizer_steps": REAL,
    "stage1_samples_seen": REAL,
    "stage1_wall_s": REAL,
    "stage1_gpu_s": REAL,
}

#: One row a projector: the answer of the study, with what it cost.
RANKING: dict[str, Any] = {
    "projector": TEXT,
    "ranked": FLAG,
    "rank_low": WHOLE,
    "rank_high": WHOLE,
    "gate": TEXT,
    "gate_reason": TEXT,
    "stamps": TEXT,
    "grounding_margin": REAL,
    "grounding_margin_low": REAL,
    "grounding_margin_high": REAL,
    "interval_basis": TEXT,
    "seed_sd": REAL,
    "n_seeds": WHOLE,
    "siglip_cosine": REAL,
    "meteor_gain": REAL,
    "retrieval_r1": REAL,
    "effective_captions": REAL,
    "top_cluster_share": REAL,
    "shuffled_gap": REAL,
    "reversed_gap": REAL,
    "clears_retrieval": FLAG,
    "chosen_cell": TEXT,
    "tokens_per_video": WHOLE,
    "projector_parameters": WHOLE,
    "lora_parameters": WHOLE,
    **COSTS,
    "reference_grounding_margin": REAL,
    "reference_siglip_cosine": REAL,
    "reference_meteor_gain": REAL,
    "reference_retrieval_r1": REAL,
    "reference_effective_captions": REAL,
    "reference_top_cluster_share": REAL,
}

#: One row a cell: every training run and the two captioners that need no training.
CELLS: dict[str, Any] = {
    "cell": TEXT,
    "projector": TEXT,
    "role": TEXT,
    "seed": WHOLE,
    "split": TEXT,
    "learning_rate": REAL,
    "epochs": REAL,
    "chosen": FLAG,
    "collapsed": FLAG,
    "n_clips": WHOLE,
    "n_empty": WHOLE,
    "truncated_share": REAL,
    **{name: REAL for name in METRICS},
    "grounding_margin_low": REAL,
    "grounding_margin_high": REAL,
    "loss_matched": REAL,
    "shuffled_gap": REAL,
    "shuffled_gap_low": REAL,
    "shuffled_gap_high": REAL,
    "reversed_gap": REAL,
    "reversed_gap_low": REAL,
    "reversed_gap_high": REAL,
    "tokens_per_video": WHOLE,
    "projector_parameters": WHOLE,
    "lora_parameters": WHOLE,
    **COSTS,
    "device": TEXT,
    "peak_gpu_gb": REAL,
    "stage1_cell": TEXT,
    "git_commit": TEXT,
}

#: One row a clip and cell, as scored.
CLIPS: dict[str, Any] = {
    "cell": TEXT,
    "projector": TEXT,
    "role": TEXT,
    "seed": WHOLE,
    "id": TEXT,
    "split": TEXT,
    "group": TEXT,
    "category": TEXT,
    "caption": TEXT,
    "n_tokens": WHOLE,
    "truncated": FLAG,
    "cluster": WHOLE,
    "siglip_cosine": REAL,
    "siglip_sum": REAL,
    "siglip_sigmoid": REAL,
    "siglip_published": REAL,
    "grounding_margin": REAL,
    "grounding_margin_within": REAL,
    "retrieval_rank": REAL,
    "meteor": REAL,
    "meteor_mismatched": REAL,
    "meteor_gain": REAL,
    "bertscore_f1": REAL,
    "loss_matched": REAL,
    "loss_shuffled": REAL,
    "loss_reversed": REAL,
}

#: One row a control and figure. ``as_expected`` is null where the control is a bar, not a test.
CONTROLS: dict[str, Any] = {
    "control": TEXT,
    "cell": TEXT,
    "role": TEXT,
    "projector": TEXT,
    "seed": WHOLE,
    "n_runs": WHOLE,
    "split": TEXT,
    "n_clips": WHOLE,
    "metric": TEXT,
    "value": REAL,
    "low": REAL,
    "high": REAL,
    "reference": REAL,
    "chance": REAL,
    "gate": TEXT,
    "gate_reason": TEXT,
    "expectation": TEXT,
    "as_expected": FLAG,
}

#: One row a pair of projectors.
PAIRS: dict[str, Any] = {
    "a": TEXT,
    "b": TEXT,
    "difference": REAL,
    "low": REAL,
    "high": REAL,
    "p": REAL,
    "p_holm": REAL,
    "df": REAL,
    "smallest_detectable": REAL,
    "seed_sd_to_undo": REAL,
    "better": TEXT,
}

#: One row a projector: what one of its report runs was given and took, both stages together.
LEDGER: dict[str, Any] = {
    "projector": TEXT,
    "chosen_cell": TEXT,
    "report_seeds": TEXT,
    "learning_rate": REAL,
    "epochs": REAL,
    "samples_seen": REAL,
    "optimizer_steps": REAL,
    "tokens_per_video": WHOLE,
    "projector_parameters": WHOLE,
    "lora_parameters": WHOLE,
    "flops": REAL,
    "gpu_s": REAL,
    "wall_s": REAL,
    "gpus": WHOLE,
    "peak_gpu_gb": REAL,
    "truncated_captions": REAL,
    "truncated_targets": REAL,
    "n_tuned": WHOLE,
    "n_collapsed": WHOLE,
}

#: One row a measure and projector: the order that another measure would have given.
SENSITIVITY: dict[str, Any] = {
    "metric": TEXT,
    "projector": TEXT,
    "value": REAL,
    "rank_by_mean": WHOLE,
    "same_top": FLAG,
    "kendall_tau": REAL,
}

#: One row a metric: what the columns named after it hold, in which tokens and on which scale.
METRIC: dict[str, Any] = {
    "metric": TEXT,
    "definition": TEXT,
    "tokenizer": TEXT,
    "version": TEXT,
    "unit": TEXT,
    "min": REAL,
    "max": REAL,
    "higher_is_better": FLAG,
    "human": REAL,
    "not_computed": TEXT,
}

#: One row a clip that could not be used.
REJECTED: dict[str, Any] = {"id": TEXT, "path": TEXT, "reason": TEXT}

TABLES: dict[str, dict[str, Any]] = {
    "ranking": RANKING,
    "cells": CELLS,
    "clips": CLIPS,
    "controls": CONTROLS,
    "pairs": PAIRS,
    "ledger": LEDGER,
    "sensitivity": SENSITIVITY,
    "metrics": METRIC,
    "rejected": REJECTED,
}


def frame(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows as table ``name``: its columns and types in order, missing keys null, others dropped."""
    columns = TABLES[name]
    data = {column: [row.get(column) for row in rows] for column in columns}
    return pl.DataFrame(data, schema=columns, strict=False)


def conform(name: str, table: pl.DataFrame) -> pl.DataFrame:
    """Table with the columns and types of schema ``name``; columns it lacks are null."""
    columns = TABLES[name]
    return table.select(
        (pl.col(column) if column in table.columns else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in columns.items()
    )
