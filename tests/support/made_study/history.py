"""What the training of a made-up cell left: steps, epochs and the first stage's cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.io import write_json, write_parquet
from siglip_study.study.paths import Paths


def write_history(
    root: Path,
    name: str,
    rng: np.random.Generator,
    steps: int,
    lr: float | None,
    role: str,
    collapsed: bool,
) -> None:
    """``steps.parquet`` and ``epochs.parquet`` of both stages, and ``stage.json``."""
    first, second = Paths(root).stage1(name), Paths(root).run(name)
    cost = {"wall_s": 31.0, "gpu_s": 0.0, "optimizer_steps": steps, "samples_seen": 16 * steps}
    write_json(first / "stage.json", cost, "stage/1")
    for stage, folder in ((1, first), (2, second)):
        write_parquet(folder / "steps.parquet", _steps(stage, rng, steps, lr))
        write_parquet(folder / "epochs.parquet", _epochs(stage, steps, role, collapsed))


def _steps(stage: int, rng: np.random.Generator, steps: int, lr: float | None) -> pl.DataFrame:
    curve = 3 * np.exp(-np.arange(steps) / (steps / 3)) + (0.8 if stage == 2 else 1.4)
    return pl.DataFrame(
        {
            "stage": [stage] * steps,
            "step": list(range(1, steps + 1)),
            "epoch": [1 + i * 2 // steps for i in range(steps)],
            "loss": curve + rng.normal(0, 0.05, steps),
            "lr_projector": [lr] * steps,
            "lr_lora": [lr] * steps,
            "grad_norm": [0.5] * steps,
            "target_tokens": [300] * steps,
            "samples": [16] * steps,
            "seconds": [0.2] * steps,
            "gpu_gb": [0.0] * steps,
        }
    )


def _epochs(stage: int, steps: int, role: str, collapsed: bool) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "stage": [stage] * 2,
            "epoch": [1, 2],
            "step": [steps // 2, steps],
            "train_loss": [2.0, 1.2],
            "val_loss": [2.1, 1.3],
            "quick_effective_captions": [0.1, 0.02 if collapsed else 0.7],
            "quick_distinct_ratio": [0.2, 0.9],
            "quick_n": [16, 16],
            "is_best": [False, True],
            "seconds": [4.0, 4.0],
            **_diagnosis(stage, collapsed, role),
        }
    )


def _diagnosis(stage: int, collapsed: bool, role: str) -> dict[str, list[Any]]:
    """A projector that keeps the video, or loses it in the second epoch of stage 1."""
    blind = role == "control_blind"
    kept = [0.0, 0.0] if blind else [0.4, 0.004] if collapsed else [0.4, 0.38]
    shares = kept if stage == 1 else [kept[1], kept[1]]
    return {
        "diag_n": [32, 32],
        "diag_start_video_share_after": [0.0 if blind else 0.41 if stage == 1 else kept[1]] * 2,
        "diag_start_cosine_after": [0.6, 0.6],
        "diag_start_rank_clips": [26.0, 26.0],
        "diag_rank_clips": [1 + 60 * share for share in shares],
        "diag_rank_tokens": [90.0, 80.0],
        "diag_cosine_before": [0.62, 0.62],
        "diag_cosine_after": [1 - share for share in shares],
        "diag_video_share_before": [0.5, 0.5],
        "diag_video_share_after": shares,
        "diag_neighbour_overlap": [None if blind else 0.6, None if blind else 0.58],
        "diag_attention_entropy": [None, None],
        "grad_share_projector": [1.0, 1.0] if stage == 1 else [0.6, 0.5],
        "grad_share_lora": [0.0, 0.0] if stage == 1 else [0.4, 0.5],
    }
