"""Runs and cells: what a training result depends on, and the name that it stands under.

A *run* is everything a training result depends on. A *cell* is a run under a name:
``<projector label>_<8 hex of the run keys that differ from the defaults>``, so a new key whose
default is the old behaviour renames nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

from pydantic import Field

from siglip_study.config.axes import told_value
from siglip_study.config.training import LlmConfig, StageConfig, TrainingConfig, VisionConfig
from siglip_study.config.types import Options, Section

Role = Literal[
    "tuning",
    "report",
    "control_hot",
    "control_blind",
    "control_noise",
    "control_permuted",
    "control_untrained",
    "control_stage1",
    "preset",
]
Sabotage = Literal["none", "noise_features", "permuted_captions"]

SPLITS = ("train", "selection", "report")
# What a training reads: it learns of the first and watches the second.
TRAINED_ON = ("train", "selection")
# Under cross-fitting these are the halves A and B of the one held-out split.
HELD_OUT = ("selection", "report")
# Captioners that train nothing: name → role.
BASELINES = {
    "references": "references",
    "retrieval": "control_retrieval",
    "generic": "control_generic",
    "category": "control_category",
}


def keys_hash(keys: Mapping[str, Any]) -> str:
    """Eight hex digits of a mapping, whatever the order of its keys."""
    text = json.dumps(keys, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def slug(model: str) -> str:
    """A readable, path-safe name of a model id or folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model.rstrip("/").split("/")[-1]).strip("-.") or "model"


@cache
def encoder_slug(vision: VisionConfig) -> str:
    """Folder of an encoder's features: a readable name and a hash of what they depend on."""
    return f"{slug(vision.model)}-{keys_hash(vision.keys())}"


@cache
def _unsaid(stage: StageConfig) -> StageConfig:
    return stage.model_copy(update={"keep": None}) if stage.keep == "val_loss" else stage


class RunSpec(Section):
    """Everything the result of a training run depends on, besides the data."""

    projector: str = Field(description="Exact registry name.")
    options: Options = Field({}, description="Options of the projector.")
    vision: VisionConfig = VisionConfig()
    llm: LlmConfig = LlmConfig()
    training: TrainingConfig = TrainingConfig()
    stage1: StageConfig = StageConfig()
    stage2: StageConfig = StageConfig(epochs=3, learning_rate=5e-5)
    seed: int = 0
    sabotage: Sabotage = Field("none", description="Worlds that must fail train on spoiled data.")
    projector_trained: bool = Field(
        True, description="False: no stage 1, and adapters alone train in stage 2."
    )

    @property
    def encoder(self) -> str:
        """Folder of the features that it reads."""
        return encoder_slug(self.vision)

    def stage1_keys(self) -> dict[str, Any]:
        """The keys stage 1 depends on; equal keys share one stage-1 folder."""
        return _of_stage1(self.keys())

    def keys(self) -> dict[str, Any]:
        """The keys that differ from the defaults; weights kept by validation loss go unsaid."""
        stages = {"stage1": _unsaid(self.stage1), "stage2": _unsaid(self.stage2)}
        return self.model_copy(update=stages).model_dump(exclude_defaults=True, mode="json")


def _of_stage1(keys: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in keys.items() if name != "stage2"}
    # Adapters belong to stage 2.
    llm = {name: value for name, value in kept.pop("llm", {}).items() if name != "lora"}
    return kept | ({"llm": llm} if llm else {})


@dataclass(frozen=True)
class Cell:
    """A run under its name, with the role it plays in the study.

    In the role ``control_stage1`` it is a run's first stage as it stands, captioned and trained no
    further: its name is that stage's.

    ``captioned`` are the held-out splits it captions: ``selection`` for a tuning cell, else
    ``report``; under cross-fitting (``exchanged``) these are halves A and B, and every cell but a
    preset captions both. ``settings`` are those of a point of the grid that are not alike in all of
    them, by dotted key: they name nothing, but tell people what a name stands for.
    """

    label: str
    role: Role
    run: RunSpec
    exchanged: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @cached_property
    def _keys(self) -> dict[str, Any]:
        return self.run.keys()

    @cached_property
    def name(self) -> str:
        if self.role == "control_stage1":
            return f"stage1.{self.stage1_name}"
        return f"{self.label}_{keys_hash(self._keys)}"

    @cached_property
    def stage1_name(self) -> str:
        return f"{self.label}_{keys_hash(_of_stage1(self._keys))}"

    def title(self, stage: int = 2) -> str:
        """Its name, or its first stage's, with settings: ``mlp_2l_… · lr 2e-5 · r 16``."""
        later = ("stage2.", "llm.lora.") if stage == 1 else ()
        told = [told_value(k, v) for k, v in self.settings.items() if not k.startswith(later)]
        return " · ".join([self.name if stage == 2 else self.stage1_name, *told])

    @property
    def has_stage1(self) -> bool:
        """Whether stage 2 starts from a stage 1; an untrained projector has none."""
        return self.run.projector_trained

    @property
    def captioned_beside(self) -> tuple[str, ...]:
        """The splits it captions that its training has not read."""
        return tuple(split for split in self.captioned if split not in TRAINED_ON)

    @property
    def captioned(self) -> tuple[str, ...]:
        if self.exchanged and self.role != "preset":
            return HELD_OUT
        return ("selection",) if self.role == "tuning" else ("report",)
