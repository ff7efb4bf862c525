"""Columns of the published tables. A column that is named here is in the file, in this order."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import polars as pl

from siglip_study import metrics

#: Column → type, in the order of the file.
Columns: TypeAlias = dict[str, Any]


def _columns(dtype: Any, names: str) -> Columns:
    return dict.fromkeys(names.split(), dtype)


_text, _real = partial(_columns, pl.String), partial(_columns, pl.Float64)
_whole, _flag = partial(_columns, pl.Int64), partial(_columns, pl.Boolean)

#: Metrics that get a column of their own in ``cells``; the truncated share stands among counts.
METRICS: tuple[str, ...] = tuple(name for name in metrics.METRICS if name != "truncated_share")

#: What a run took, stage by stage; stage 1 is shared by cells, so its cost is not theirs alone.
#: Counts are real numbers: of two trainings that report a half each they are a mean.
COSTS = _real(
    "optimizer_steps samples_seen wall_s gpu_s stage1_optimizer_steps "
    "stage1_samples_seen stage1_wall_s stage1_gpu_s"
)

#: Table → its columns.
TABLES: dict[str, Columns] = {
    # One row a projector: the answer of the study, with what it cost.
    "ranking": (
        _text("projector")
        | _flag("ranked")
        | _whole("rank_low rank_high")
        | _text("gate gate_reason stamps")
        | _real("standardised_margin standardised_margin_low standardised_margin_high bar")
        | _text("interval_basis")
        | _real("seed_sd")
        | _whole("n_seeds")
        | _real(
            "grounding_margin siglip_cosine meteor_gain retrieval_r1 effective_captions "
            "top_cluster_share shuffled_gap reversed_gap"
        )
        | _flag("clears_retrieval")
        | _text("chosen_cell")
        | _whole("tokens_per_video projector_parameters lora_parameters")
        | COSTS
        | _real(
            "reference_standardised_margin reference_grounding_margin reference_siglip_cosine "
            "reference_meteor_gain "
            "reference_retrieval_r1 reference_effective_captions reference_top_cluster_share"
        )
    ),
    # One row a cell: every training run and the two captioners that need no training.
    "cells": (
        _text("cell projector role")
        | _whole("seed")
        | _text("split")
        | _real("learning_rate epochs")
        | _text("settings")
        | _flag("chosen collapsed")
        | _whole("n_clips n_empty")
        | _real("truncated_share")
        | dict.fromkeys(METRICS, pl.Float64)
        | _real(
            "grounding_margin_low grounding_margin_high loss_matched shuffled_gap "
            "shuffled_gap_low shuffled_gap_high reversed_gap reversed_gap_low reversed_gap_high"
        )
        | _whole("tokens_per_video projector_parameters lora_parameters")
        | COSTS
        | _text("device")
        | _real("peak_gpu_gb")
        | _text("stage1_cell git_commit")
    ),
    # One row a clip and cell, as scored.
    "clips": (
        _text("cell projector role")
        | _whole("seed")
        | _text("id split group category caption")
        | _whole("n_tokens")
        | _flag("truncated")
        | _whole("cluster")
        | _real(
            "siglip_cosine siglip_sum siglip_sigmoid siglip_published grounding_margin "
            "grounding_margin_within standardised_margin standardised_margin_within sentences "
            "retrieval_rank meteor meteor_mismatched meteor_gain "
            "bertscore_f1 loss_matched loss_shuffled loss_reversed"
        )
    ),
    # One row a control and figure. ``as_expected`` is null where the control is a bar, not a test.
    "controls": (
        _text("control cell role projector")
        | _whole("seed n_runs")
        | _text("split")
        | _whole("n_clips")
        | _text("metric")
        | _real("value low high reference chance")
        | _text("gate gate_reason expectation")
        | _flag("as_expected")
    ),
    # One row a pair of projectors.
    "pairs": (
        _text("a b")
        | _real(
            "difference low high joint_low joint_high p p_holm df smallest_detectable power "
            "shrunken seed_sd_to_undo"
        )
        | _text("better")
    ),
    # One row a report run: the gate's word on it alone, and its figures with intervals over clips.
    "runs": (
        _text("projector cell")
        | _whole("seed")
        | _text("gate")
        | _real(
            "standardised_margin standardised_margin_low standardised_margin_high "
            "effective_captions sentences auc auc_low auc_high retrieval_r1 retrieval_r1_low "
            "retrieval_r1_high retrieval_r5 retrieval_r5_low retrieval_r5_high"
        )
    ),
    # One row a metric that has a value a clip: variance by source, in squared units of the metric.
    "variance": (
        _text("metric") | _real("projector seed clip interaction residual signal_to_noise")
    ),
    # One row a projector: what one of its report runs was given and took, both stages together.
    "ledger": (
        _text("projector chosen_cell report_seeds")
        | _real("learning_rate epochs")
        | _text("settings")
        | _real("samples_seen optimizer_steps")
        | _whole("tokens_per_video projector_parameters lora_parameters")
        | _real("flops gpu_s wall_s")
        | _whole("gpus")
        | _real("peak_gpu_gb truncated_captions truncated_targets sentences reference_sentences")
        | _whole("n_tuned n_tuning_seeds n_collapsed")
    ),
    # One row a measure and projector: the order that another measure would have given.
    "sensitivity": (
        _text("metric projector")
        | _real("value low high")
        | _whole("rank_by_mean")
        | _flag("same_top")
        | _real("kendall_tau")
    ),
    # One row a metric: what the columns named after it hold, in which tokens and on which scale.
    "metrics": (
        _text("metric definition tokenizer version unit")
        | _real("min max")
        | _flag("higher_is_better")
        | _real("human")
        | _text("not_computed")
    ),
    # One row a clip that could not be used.
    "rejected": _text("id path reason"),
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
