"""One made-up captioner: its captions, its scores and, if it was trained, its history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.io import write_json, write_parquet
from siglip_study.study.paths import Paths

HOSTILE = "</script><img src=x onerror=alert(1)>"
HUMAN_MARGIN = 0.18
TRUTH = {"shape": 0.8, "colour": 0.7, "place": 0.6, "weather": 0.3, "motion_direction": 0.25}
_SKILL = {"linear": 0.10, "mlp_2l": 0.12, "c_abstractor": 0.06, "query_perceiver": 0.004}
_WORDS = (
    "파란 빨간 노란 공이 상자가 별이 왼쪽으로 오른쪽으로 천천히 빠르게 들판에서 바닷가에서 비 오는 "
    "날 움직인다 멈춘다"
)
# Unit, least, most, higher is better, tokenizer, and the references' value.
_METRICS = {
    # An SD of 1, so that M is D.
    "standardised_margin": ("SD", None, None, True, None, HUMAN_MARGIN),
    "grounding_margin": ("cosine", -2.0, 2.0, True, None, HUMAN_MARGIN),
    "auc": ("probability", 0.0, 1.0, True, None, 0.97),
    "siglip_cosine": ("cosine", -1.0, 1.0, True, None, 0.31),
    "siglip_published": ("probability", 0.0, 1.0, True, None, 0.4),
    "retrieval_r1": ("share", 0.0, 1.0, True, None, 0.72),
    "meteor": ("score", 0.0, 1.0, True, "kiwi content morphemes", 0.6),
    "meteor_gain": ("score", -1.0, 1.0, True, "kiwi content morphemes", 0.42),
    "effective_captions": ("share", 0.0, 1.0, True, None, 0.93),
    "distinct_ratio": ("share", 0.0, 1.0, True, None, 1.0),
    "top_cluster_share": ("share", 0.0, 1.0, False, None, 0.03),
}


def skill_of(label: str) -> float:
    """Mean D of a projector's captions."""
    return _SKILL.get(label, 0.05)


def caption(rng: np.random.Generator, words: int = 9) -> str:
    return " ".join(rng.choice(_WORDS.split(), words)) + "."


@dataclass(frozen=True)
class Size:
    """What all captioners of a study share."""

    root: Path
    ids: list[str]
    rng: np.random.Generator
    steps: int
    words: int


@dataclass(frozen=True)
class Captioner:
    """A cell, or one of the baselines, which have no projector and no seed."""

    name: str
    role: str
    skill: float
    label: str | None = None
    seed: int | None = None
    lr: float | None = None
    epochs: int | None = None
    collapsed: bool = False
    truth: bool = False

    @property
    def split(self) -> str:
        return "selection" if self.role == "tuning" else "report"

    @property
    def trained(self) -> bool:
        return self.role not in ("references", "control_retrieval")


def write_captioner(size: Size, made: Captioner) -> None:
    """Every file under ``runs/<name>``, and the first stage's."""
    paths = Paths(size.root)
    folder, first = paths.run(made.name), paths.stage1(made.name)
    write_parquet(folder / "clips.parquet", _clips(size, made))
    write_json(folder / "metrics.json", _metrics(made, len(size.ids)), "metrics/1")
    if made.trained:
        cost = {"wall_s": 31.0, "gpu_s": 0.0}
        cost |= {"optimizer_steps": size.steps, "samples_seen": 16 * size.steps}
        write_json(folder / "cell.json", _cell(made, size.steps), "cell/1")
        write_json(first / "stage.json", cost, "stage/1")
        for stage, where in ((1, first), (2, folder)):
            write_parquet(where / "steps.parquet", _steps(stage, size, made.lr))
            write_parquet(where / "epochs.parquet", _epochs(stage, size.steps, made))


# ---- Captions and scores.


def _clips(size: Size, made: Captioner) -> pl.DataFrame:
    rng, n = size.rng, len(size.ids)
    template = caption(rng, size.words)
    margins = rng.normal(made.skill, 0.03, n)
    captions = [template if made.collapsed else caption(rng, size.words) for _ in size.ids]
    if made.role == "report":
        captions[:2] = [HOSTILE, ""][:n]
    return pl.DataFrame(
        {
            "cell": made.name,
            "id": size.ids,
            "split": made.split,
            "group": [f"video_{i // 2}" for i in range(n)],
            "category": None,
            "caption": captions,
            "n_tokens": 12,
            "truncated": [i % 9 == 0 for i in range(n)],
            "cluster": [0 if made.collapsed else i for i in range(n)],
            "siglip_cosine": 0.2 + margins,
            "siglip_sum": 0.4,
            "siglip_sigmoid": 0.1,
            "siglip_published": 0.1,
            "grounding_margin": margins,
            "standardised_margin": margins,
            "retrieval_rank": 1.5,
            "meteor": 0.3,
            "meteor_mismatched": 0.2,
            "meteor_gain": 0.1,
            "bertscore_f1": None,
            "loss_matched": 1.5,
            "loss_shuffled": 1.5 + made.skill * 5,
            "loss_reversed": 1.5 + made.skill,
        }
    )


def _metrics(made: Captioner, clips: int) -> dict[str, Any]:
    center = made.skill * 5
    gap = {"value": center, "low": center - 0.02, "high": center + 0.02}
    losses = {"matched": 1.5, "shuffled_gap": gap, "reversed_gap": {**gap, "value": 0.01}}
    share = min(1.0, made.skill / HUMAN_MARGIN)  # how near D comes to that of the human captions
    fixed = {
        "grounding_margin": made.skill,
        "standardised_margin": made.skill,
        "effective_captions": 1 / clips if made.collapsed else 0.8,
        "top_cluster_share": 1.0 if made.collapsed else 0.05,
    }
    values = {}
    for metric, (*_, reference) in _METRICS.items():
        value = fixed.get(metric, reference * (0.3 + 0.7 * share))
        chance = 1 / clips if metric == "retrieval_r1" else None
        bounds = {"low": value - 0.012, "high": value + 0.012}
        values[metric] = {"value": value, **bounds, "reference": reference, "chance": chance}
    truth = {
        attribute: {
            "kappa": kappa * share,
            "low": kappa * share - 0.08,
            "high": kappa * share + 0.08,
            "accuracy": 0.5 + kappa * share / 2,
            "majority": 0.4,
            "n": clips,
        }
        for attribute, kappa in TRUTH.items()
    }
    keys = ("unit", "min", "max", "higher_is_better", "tokenizer")
    return {
        "cell": made.name,
        "role": made.role,
        "projector": made.label,
        "seed": made.seed,
        "split": made.split,
        "n_clips": clips,
        "values": values,
        "metrics": {
            metric: {"version": "1", **dict(zip(keys, facts[:5], strict=True))}
            for metric, facts in _METRICS.items()
        },
        "losses": losses if made.trained else {},
        "not_computed": {"bertscore_f1": "no model is configured (metrics.bertscore)"},
        "n_empty": 1,
        "truncated_share": 0.1,
        "truth": truth if made.truth else None,
    }


# ---- What a training left.


def _cell(made: Captioner, steps: int) -> dict[str, Any]:
    return {
        "cell": made.name,
        "projector": made.label,
        "role": made.role,
        "seed": made.seed,
        "run": {
            "projector": made.label,
            "vision": {"model": "openai/clip-vit-large-patch14-336", "frames": 8},
            "stage1": {"learning_rate": 1e-3, "epochs": 2},
            "stage2": {"learning_rate": made.lr, "epochs": made.epochs},
        },
        "stage1_cell": made.name,
        "projector_parameters": 4_198_400,
        "lora_parameters": 43_646_976,
        "tokens_per_video": 64,
        "optimizer_steps": 2 * steps,
        "samples_seen": 16 * steps,
        "device": "cpu",
        "wall_s": 75.3,
        "gpu_s": 0.0,
        "peak_gpu_gb": 0.0,
        "versions": {"torch": "2.13.0"},
        "git_commit": "0" * 40,
    }


def _steps(stage: int, size: Size, lr: float | None) -> pl.DataFrame:
    steps = size.steps
    curve = 3 * np.exp(-np.arange(steps) / (steps / 3)) + (0.8 if stage == 2 else 1.4)
    return pl.DataFrame(
        {
            "stage": stage,
            "step": range(1, steps + 1),
            "epoch": [1 + i * 2 // steps for i in range(steps)],
            "loss": curve + size.rng.normal(0, 0.05, steps),
            "lr_projector": lr,
            "lr_lora": lr,
            "grad_norm": 0.5,
            "target_tokens": 300,
            "samples": 16,
            "seconds": 0.2,
            "gpu_gb": 0.0,
        }
    )


def _epochs(stage: int, steps: int, made: Captioner) -> pl.DataFrame:
    """A projector that keeps the video, or loses it in the second epoch of stage 1."""
    blind = made.role == "control_blind"
    kept = [0.0, 0.0] if blind else [0.4, 0.004] if made.collapsed else [0.4, 0.38]
    shares = kept if stage == 1 else [kept[1], kept[1]]
    return pl.DataFrame(
        {
            "stage": stage,
            "epoch": [1, 2],
            "step": [steps // 2, steps],
            "train_loss": [2.0, 1.2],
            "val_loss": [2.1, 1.3],
            "quick_effective_captions": [0.1, 0.02 if made.collapsed else 0.7],
            "quick_distinct_ratio": [0.2, 0.9],
            "quick_n": 16,
            "is_best": [False, True],
            "seconds": 4.0,
            "diag_n": 32,
            "diag_start_video_share_after": 0.0 if blind else 0.41 if stage == 1 else kept[1],
            "diag_start_cosine_after": 0.6,
            "diag_start_rank_clips": 26.0,
            "diag_rank_clips": [1 + 60 * share for share in shares],
            "diag_rank_tokens": [90.0, 80.0],
            "diag_cosine_before": 0.62,
            "diag_cosine_after": [1 - share for share in shares],
            "diag_video_share_before": 0.5,
            "diag_video_share_after": shares,
            "diag_neighbour_overlap": [None if blind else 0.6, None if blind else 0.58],
            "diag_attention_entropy": None,
            "grad_share_projector": [1.0, 1.0] if stage == 1 else [0.6, 0.5],
            "grad_share_lora": [0.0, 0.0] if stage == 1 else [0.4, 0.5],
        }
    )
