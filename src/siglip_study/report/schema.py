"""Columns of the published tables. A column that is named here is in the file, in this order."""

from __future__ import annotations

from typing import Any, TypeAlias

import polars as pl

from siglip_study import metrics

TEXT, REAL, WHOLE, FLAG = pl.String, pl.Float64, pl.Int64, pl.Boolean

#: Column → type, in the order of the file.
Columns: TypeAlias = dict[str, Any]


def _columns(*parts: Columns | tuple[Any, str | tuple[str, ...]]) -> Columns:
    """Columns in order, of parts: a type with its names, or columns that are known already."""
    found: Columns = {}
    for part in parts:
        if isinstance(part, dict):
            found |= part
        else:
            dtype, names = part
            found |= dict.fromkeys(names.split() if isinstance(names, str) else names, dtype)
    return found


#: Metrics that get a column of their own in ``cells``; the truncated share stands among counts.
METRICS: tuple[str, ...] = tuple(name for name in metrics.METRICS if name != "truncated_share")

#: What a run took, stage by stage; stage 1 is shared by cells, so its cost is not theirs alone.
#: Counts are real numbers: of two trainings that report a half each they are a mean.
COSTS = _columns(
    (
        REAL,
        "optimizer_steps samples_seen wall_s gpu_s stage1_optimizer_steps "
        "stage1_samples_seen stage1_wall_s stage1_gpu_s",
    ),
)

#: One row a projector: the answer of the study, with what it cost.
RANKING = _columns(
    (TEXT, "projector"),
    (FLAG, "ranked"),
    (WHOLE, "rank_low rank_high"),
    (TEXT, "gate gate_reason stamps"),
    (REAL, "grounding_margin grounding_margin_low grounding_margin_high"),
    (TEXT, "interval_basis"),
    (REAL, "seed_sd"),
    (WHOLE, "n_seeds"),
    (
        REAL,
        "siglip_cosine meteor_gain retrieval_r1 effective_captions top_cluster_share "
        "shuffled_gap reversed_gap",
    ),
    (FLAG, "clears_retrieval"),
    (TEXT, "chosen_cell"),
    (WHOLE, "tokens_per_video projector_parameters lora_parameters"),
    COSTS,
    (
        REAL,
        "reference_grounding_margin reference_siglip_cosine reference_meteor_gain "
        "reference_retrieval_r1 reference_effective_captions reference_top_cluster_share",
    ),
)

#: One row a cell: every training run and the two captioners that need no training.
CELLS = _columns(
    (TEXT, "cell projector role"),
    (WHOLE, "seed"),
    (TEXT, "split"),
    (REAL, "learning_rate epochs"),
    (FLAG, "chosen collapsed"),
    (WHOLE, "n_clips n_empty"),
    (REAL, "truncated_share"),
    (REAL, METRICS),
    (
        REAL,
        "grounding_margin_low grounding_margin_high loss_matched shuffled_gap "
        "shuffled_gap_low shuffled_gap_high reversed_gap reversed_gap_low reversed_gap_high",
    ),
    (WHOLE, "tokens_per_video projector_parameters lora_parameters"),
    COSTS,
    (TEXT, "device"),
    (REAL, "peak_gpu_gb"),
    (TEXT, "stage1_cell git_commit"),
)

#: One row a clip and cell, as scored.
CLIPS = _columns(
    (TEXT, "cell projector role"),
    (WHOLE, "seed"),
    (TEXT, "id split group category caption"),
    (WHOLE, "n_tokens"),
    (FLAG, "truncated"),
    (WHOLE, "cluster"),
    (
        REAL,
        "siglip_cosine siglip_sum siglip_sigmoid siglip_published grounding_margin "
        "grounding_margin_within retrieval_rank meteor meteor_mismatched meteor_gain "
        "bertscore_f1 loss_matched loss_shuffled loss_reversed",
    ),
)

#: One row a control and figure. ``as_expected`` is null where the control is a bar, not a test.
CONTROLS = _columns(
    (TEXT, "control cell role projector"),
    (WHOLE, "seed n_runs"),
    (TEXT, "split"),
    (WHOLE, "n_clips"),
    (TEXT, "metric"),
    (REAL, "value low high reference chance"),
    (TEXT, "gate gate_reason expectation"),
    (FLAG, "as_expected"),
)

#: One row a pair of projectors.
PAIRS = _columns(
    (TEXT, "a b"),
    (REAL, "difference low high p p_holm df smallest_detectable seed_sd_to_undo"),
    (TEXT, "better"),
)

#: One row a projector: what one of its report runs was given and took, both stages together.
LEDGER = _columns(
    (TEXT, "projector chosen_cell report_seeds"),
    (REAL, "learning_rate epochs samples_seen optimizer_steps"),
    (WHOLE, "tokens_per_video projector_parameters lora_parameters"),
    (REAL, "flops gpu_s wall_s"),
    (WHOLE, "gpus"),
    (REAL, "peak_gpu_gb truncated_captions truncated_targets"),
    (WHOLE, "n_tuned n_collapsed"),
)

#: One row a measure and projector: the order that another measure would have given.
SENSITIVITY = _columns(
    (TEXT, "metric projector"),
    (REAL, "value"),
    (WHOLE, "rank_by_mean"),
    (FLAG, "same_top"),
    (REAL, "kendall_tau"),
)

#: One row a metric: what the columns named after it hold, in which tokens and on which scale.
METRIC = _columns(
    (TEXT, "metric definition tokenizer version unit"),
    (REAL, "min max"),
    (FLAG, "higher_is_better"),
    (REAL, "human"),
    (TEXT, "not_computed"),
)

#: One row a clip that could not be used.
REJECTED = _columns((TEXT, "id path reason"))

TABLES: dict[str, Columns] = {
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
