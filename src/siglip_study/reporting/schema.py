"""Columns of the published tables. A column that is named here is in the file, in this order."""

from __future__ import annotations

from typing import Any

import polars as pl

S, F, I, B = pl.String, pl.Float64, pl.Int64, pl.Boolean

#: Corpus metrics that get a column of their own in ``cells`` and ``ranking``.
METRICS: tuple[str, ...] = (
    "siglip_cosine",
    "siglip_sum",
    "siglip_sigmoid",
    "siglip_published",
    "grounding_margin",
    "grounding_margin_within",
    "auc",
    "auc_within",
    "bits",
    "retrieval_r1",
    "retrieval_r5",
    "retrieval_mrr",
    "meteor",
    "meteor_all",
    "meteor_characters",
    "meteor_words",
    "meteor_mismatched",
    "meteor_gain",
    "cider",
    "cider_gain",
    "bertscore_f1",
    "effective_captions",
    "top_cluster_share",
    "distinct_ratio",
    "distinct_1",
    "distinct_2",
    "self_bleu",
    "vendi",
    "novelty",
    "repetition_4",
    "length_ratio",
)

#: What a run took, stage by stage; stage 1 is shared by cells, so its cost is not theirs alone.
COSTS: dict[str, Any] = {
    "optimizer_steps": I,
    "samples_seen": I,
    "wall_s": F,
    "gpu_s": F,
    "stage1_optimizer_steps": I,
    "stage1_samples_seen": I,
    "stage1_wall_s": F,
    "stage1_gpu_s": F,
}

#: One row a projector: the answer of the study, with what it cost.
RANKING: dict[str, Any] = {
    "projector": S,
    "ranked": B,
    "rank_low": I,
    "rank_high": I,
    "gate": S,
    "gate_reason": S,
    "stamps": S,
    "grounding_margin": F,
    "grounding_margin_low": F,
    "grounding_margin_high": F,
    "interval_basis": S,
    "seed_sd": F,
    "n_seeds": I,
    "siglip_cosine": F,
    "meteor_gain": F,
    "retrieval_r1": F,
    "effective_captions": F,
    "top_cluster_share": F,
    "shuffled_gap": F,
    "reversed_gap": F,
    "clears_retrieval": B,
    "chosen_cell": S,
    "tokens_per_video": I,
    "projector_parameters": I,
    "lora_parameters": I,
    **COSTS,
    "reference_grounding_margin": F,
    "reference_siglip_cosine": F,
    "reference_meteor_gain": F,
    "reference_retrieval_r1": F,
    "reference_effective_captions": F,
    "reference_top_cluster_share": F,
}

#: One row a cell: every training run and the two captioners that need no training.
CELLS: dict[str, Any] = {
    "cell": S,
    "projector": S,
    "role": S,
    "seed": I,
    "split": S,
    "learning_rate": F,
    "epochs": F,
    "chosen": B,
    "collapsed": B,
    "n_clips": I,
    "n_empty": I,
    "truncated_share": F,
    **{name: F for name in METRICS},
    "grounding_margin_low": F,
    "grounding_margin_high": F,
    "loss_matched": F,
    "shuffled_gap": F,
    "shuffled_gap_low": F,
    "shuffled_gap_high": F,
    "reversed_gap": F,
    "reversed_gap_low": F,
    "reversed_gap_high": F,
    "tokens_per_video": I,
    "projector_parameters": I,
    "lora_parameters": I,
    **COSTS,
    "device": S,
    "peak_gpu_gb": F,
    "stage1_cell": S,
    "git_commit": S,
}

#: One row a clip and cell, as scored.
CLIPS: dict[str, Any] = {
    "cell": S,
    "projector": S,
    "role": S,
    "seed": I,
    "id": S,
    "split": S,
    "group": S,
    "category": S,
    "caption": S,
    "n_tokens": I,
    "truncated": B,
    "cluster": I,
    "siglip_cosine": F,
    "siglip_sum": F,
    "siglip_sigmoid": F,
    "siglip_published": F,
    "grounding_margin": F,
    "retrieval_rank": F,
    "meteor": F,
    "meteor_mismatched": F,
    "meteor_gain": F,
    "bertscore_f1": F,
    "loss_matched": F,
    "loss_shuffled": F,
    "loss_reversed": F,
}

#: One row a control and figure. ``as_expected`` is null where the control is a bar, not a test.
CONTROLS: dict[str, Any] = {
    "control": S,
    "cell": S,
    "role": S,
    "projector": S,
    "seed": I,
    "split": S,
    "n_clips": I,
    "metric": S,
    "value": F,
    "low": F,
    "high": F,
    "reference": F,
    "chance": F,
    "gate": S,
    "expectation": S,
    "as_expected": B,
}

#: One row a pair of projectors.
PAIRS: dict[str, Any] = {
    "a": S,
    "b": S,
    "difference": F,
    "low": F,
    "high": F,
    "p": F,
    "p_holm": F,
    "df": F,
    "smallest_detectable": F,
    "seed_sd_to_undo": F,
    "better": S,
}

#: One row a clip that could not be used.
REJECTED: dict[str, Any] = {"id": S, "path": S, "reason": S}

TABLES: dict[str, dict[str, Any]] = {
    "ranking": RANKING,
    "cells": CELLS,
    "clips": CLIPS,
    "controls": CONTROLS,
    "pairs": PAIRS,
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
