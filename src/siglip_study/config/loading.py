"""The config as typed, validated objects: the only place that knows key names and defaults.

``load_config`` reads YAML, fills defaults and rejects what it does not know. ``config_docs`` writes
the same truth as a table and as JSON Schema. Nothing heavy is imported: Snakemake reads this every
time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from siglip_study.base.errors import StudyError
from siglip_study.config.errors import error_sentence
from siglip_study.config.study import (
    BertScoreConfig,
    CaptionConfig,
    ControlsConfig,
    DataConfig,
    DemoConfig,
    GateConfig,
    GridConfig,
    PresetConfig,
    ReportConfig,
    RuntimeConfig,
    ScorerConfig,
    SeedConfig,
)
from siglip_study.config.training import (
    LlmConfig,
    ProjectorConfig,
    StageConfig,
    TrainingConfig,
    VisionConfig,
)
from siglip_study.config.types import Label, Section


class Config(Section):
    """The whole study."""

    output_dir: str = Field("results", description="Where everything computed goes.")
    demo: DemoConfig | None = Field(None, description="Makes its own clips; see DemoConfig.")
    data: DataConfig = Field(DataConfig(), description="Clips and captions.")
    vision: VisionConfig = Field(VisionConfig(), description="Frozen encoder.")
    llm: LlmConfig = Field(LlmConfig(), description="Language model.")
    projectors: dict[Label, ProjectorConfig] = Field(
        min_length=1, description="The projectors under comparison, by label."
    )
    training: TrainingConfig = Field(TrainingConfig(), description="Shared by both stages.")
    stage1: StageConfig = Field(StageConfig(), description="Projector alone.")
    stage2: StageConfig = Field(
        StageConfig(epochs=3, learning_rate=5e-5), description="Projector and LoRA."
    )
    grid: GridConfig = Field(GridConfig(), description="Tuned axes.")
    seeds: SeedConfig = Field(SeedConfig(), description="Tuning and report seeds.")
    controls: ControlsConfig = Field(ControlsConfig(), description="Cells that must fail.")
    presets: dict[Label, PresetConfig] = Field({}, description="Published experiments by name.")
    captions: CaptionConfig = Field(CaptionConfig(), description="Generation.")
    scorer: ScorerConfig = Field(ScorerConfig(), description="Caption scorer.")
    bertscore: BertScoreConfig | None = Field(None, description="BERTScore's encoder.")
    gate: GateConfig = Field(GateConfig(), description="Collapse gate.")
    report: ReportConfig = Field(ReportConfig(), description="The page.")
    runtime: RuntimeConfig = Field(RuntimeConfig(), description="Speed and memory.")

    @model_validator(mode="after")
    def _names_meet(self) -> Config:
        if self.data.root is None and self.demo is None:
            raise ValueError("data.root is missing; expected the folder of a dataset")
        if "stage2" in self.model_fields_set:
            for key in ("learning_rate", "epochs"):
                if key in self.stage2.model_fields_set:
                    raise ValueError(f"stage2.{key} is tuned; expected it in grid.{key} instead")
        if self.cross_fit:
            for name, stage in (("stage1", self.stage1), ("stage2", self.stage2)):
                for key in ("keep", "early_stopping"):
                    if getattr(stage, key) not in (None, "last"):
                        raise ValueError(
                            f"{name}.{key} chooses weights by clips that are reported too, since "
                            "data.splits has one held_out whose halves are exchanged; expected "
                            "it absent, or data.cross_fit: false"
                        )
        wanted = {
            "controls.hot.projector": self.controls.hot and self.controls.hot.projector,
            "controls.noise_features": self.controls.noise_features,
            "controls.permuted_captions": self.controls.permuted_captions,
            "controls.untrained_projector": self.controls.untrained_projector,
            **{f"presets.{name}.projector": p.projector for name, p in self.presets.items()},
        }
        for key, label in wanted.items():
            if label is not None and label not in self.projectors:
                known = ", ".join(self.projectors)
                raise ValueError(f"{key} names '{label}'; expected one of projectors: {known}")
        return self

    @property
    def cross_fit(self) -> bool:
        """Whether one held-out split is halved, and each half reported with the other's choice."""
        return "held_out" in self.data.splits and self.data.cross_fit

    @property
    def keeps(self) -> Literal["last", "val_loss"]:
        """Weights a stage ends with where its ``keep`` does not say."""
        return "last" if self.cross_fit else "val_loss"

    @property
    def data_root(self) -> Path:
        """The dataset's folder; the demo writes its own under ``output_dir``."""
        return Path(self.data.root or f"{self.output_dir}/demo")


def plain_config(config: Config) -> dict[str, Any]:
    """Every key with its value, defaults included, as ``parse_config`` reads it back."""
    values = config.model_dump(mode="json")
    for tuned in ("learning_rate", "epochs"):  # of stage 2: the grid has them
        del values["stage2"][tuned]
    return values


def parse_config(raw: Mapping[str, Any], source: str = "config") -> Config:
    """Validate a mapping as it came from YAML or from Snakemake.

    Raises:
        StudyError: one sentence naming the first wrong key, what was found and what was expected.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise StudyError(error_sentence(error.errors()[0], source, Config)) from None


def load_config(path: str | Path) -> Config:
    """Read a YAML config file.

    Raises:
        StudyError: the file is absent, is not YAML, or does not validate.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such config file.") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise StudyError(f"{path}: not readable as YAML ({problem}).") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: found {type(raw).__name__}; expected a mapping of keys.")
    return parse_config(raw, str(path))
