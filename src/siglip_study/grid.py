"""A cell of the grid ↔ its path: the only place that spells paths and enumerates runs.

A *run* is everything a training result depends on. A *cell* is a run under a name:
``<projector label>_<8 hex of the run keys that differ from the defaults>``, so a new key whose
default is the old behaviour renames nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from siglip_study.config import (
    Config,
    LlmConfig,
    ProjectorConfig,
    Section,
    StageConfig,
    TrainingConfig,
    VisionConfig,
)
from siglip_study.errors import StudyError
from siglip_study.provenance import rule_code

Role = Literal[
    "tuning",
    "report",
    "control_hot",
    "control_blind",
    "control_noise",
    "control_permuted",
    "control_untrained",
    "preset",
]
Sabotage = Literal["none", "noise_features", "permuted_captions"]

SPLITS = ("train", "selection", "report")
# Captioners that train nothing: name → role, split they are scored on.
BASELINES = {
    "references": ("references", "report"),
    "retrieval": ("control_retrieval", "report"),
    "generic": ("control_generic", "report"),
    "category": ("control_category", "report"),
    "references.selection": ("references", "selection"),
}


class RunSpec(Section):
    """Everything the result of a training run depends on, besides the data."""

    projector: str = Field(description="Exact registry name.")
    options: dict[str, Any] = Field({}, description="Options of the projector.")
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

    def stage1_keys(self) -> dict[str, Any]:
        """The keys stage 1 depends on; equal keys share one stage-1 folder."""
        keys = self.model_dump(exclude_defaults=True, exclude={"stage2"}, mode="json")
        # Adapters belong to stage 2.
        keys.get("llm", {}).pop("lora", None)
        if keys.get("llm") == {}:
            del keys["llm"]
        return keys

    def keys(self) -> dict[str, Any]:
        """The keys that differ from the defaults."""
        return self.model_dump(exclude_defaults=True, mode="json")


def _hash(keys: Mapping[str, Any]) -> str:
    text = json.dumps(keys, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _slug(model: str) -> str:
    """A readable, path-safe name of a model id or folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model.rstrip("/").split("/")[-1]).strip("-.") or "model"


@dataclass(frozen=True)
class Cell:
    """A run under its name, with the role it plays in the study.

    ``captioned`` is the split its captions are scored on: ``selection`` for tuning cells, else
    ``report``.
    """

    label: str
    role: Role
    run: RunSpec

    @cached_property
    def name(self) -> str:
        return f"{self.label}_{_hash(self.run.keys())}"

    @cached_property
    def stage1_name(self) -> str:
        return f"{self.label}_{_hash(self.run.stage1_keys())}"

    @property
    def has_stage1(self) -> bool:
        """Whether stage 2 starts from a stage 1; an untrained projector has none."""
        return self.run.projector_trained

    @property
    def captioned(self) -> str:
        return "selection" if self.role == "tuning" else "report"


class Paths:
    """Every path under the output folder."""

    def __init__(self, output_dir: str | Path) -> None:
        self.root = Path(output_dir)
        self.report = self.root / "report.html"
        self.demo = self.root / "demo"
        self.data = self.root / "data"
        self.manifest = self.data / "manifest.parquet"
        self.rejected = self.data / "rejected.parquet"
        self.tables = self.root / "tables"
        self.scorer_check = self.tables / "scorer_check.json"
        self.scorer_verdict = self.tables / "scorer_verdict.txt"
        self.selection = self.tables / "selection.json"
        self.ranking = self.tables / "ranking.json"

    def features(self, slug: str, split: str) -> Path:
        return self.root / "features" / slug / split

    def scorer_features(self, slug: str, split: str) -> Path:
        return self.root / "features" / slug / f"{split}.safetensors"

    def stage1(self, stage1_name: str) -> Path:
        return self.root / "stage1" / stage1_name

    def run(self, cell: str) -> Path:
        """The folder of a cell, trained or baseline."""
        return self.root / ("baselines" if cell in BASELINES else "runs") / cell

    def captions(self, cell: str) -> Path:
        """The captions of a cell; a baseline captions both held-out splits in one file."""
        return self.run(cell.removesuffix(".selection")) / "captions.json"

    def scores(self, split: str) -> Path:
        """Index of the cells scored on a split."""
        return self.tables / f"scores.{split}.json"

    def resume(self, name: str, params: Any) -> Path:
        """A resume point outside the declared outputs, which Snakemake deletes when a job fails."""
        return self.root / ".resume" / f"{name}-{_hash({'params': params})}"

    def prepared(self, cell: str, key: Any) -> Path:
        """Captions made while the model was loaded, waiting for the job that declares them."""
        return self.root / ".resume" / f"captions-{cell}-{_hash({'key': key})}"

    def log(self, rule: str, name: str = "all") -> str:
        return str(self.root / "logs" / rule / f"{name}.log")

    def benchmark(self, rule: str, name: str = "all") -> str:
        return str(self.root / "benchmarks" / rule / f"{name}.tsv")


class Study:
    """The grid that a config spells out: its cells, their stage-1 parents and their files."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = Paths(config.output_dir)

    # --- runs -----------------------------------------------------------------------------------

    def _run(self, label: str, seed: int, **changes: Any) -> RunSpec:
        config = self.config
        projector = config.projectors.get(label, ProjectorConfig())
        return RunSpec(
            **{
                "projector": projector.type or label,
                "options": projector.options,
                "vision": config.vision,
                "llm": config.llm,
                "training": config.training,
                "stage1": config.stage1,
                "stage2": config.stage2,
                "seed": seed,
                **changes,
            }
        )

    def _axes(self, label: str) -> Iterable[StageConfig]:
        """Stage 2 at each point of the axes that are tuned for a projector."""
        grid = self.config.grid
        for rate in grid.learning_rate:
            for epochs in self.config.projectors[label].epochs or grid.epochs:
                yield self.config.stage2.model_copy(
                    update={"learning_rate": rate, "epochs": epochs}
                )

    @cached_property
    def tuning(self) -> list[Cell]:
        """Seed 0 at every point of the grid, for every projector alike."""
        seed = self.config.seeds.tuning
        return [
            Cell(label, "tuning", self._run(label, seed, stage2=stage2))
            for label in self.config.projectors
            for stage2 in self._axes(label)
        ]

    @cached_property
    def controls(self) -> list[Cell]:
        """Cells that must fail. They take the grid's first rate and longest budget."""
        config, cells = self.config, []
        seed = config.seeds.report[0]
        longest = config.stage2.model_copy(
            update={
                "learning_rate": config.grid.learning_rate[0],
                "epochs": max(config.grid.epochs),
            }
        )
        hot = config.controls.hot
        if hot is not None:
            stage1 = config.stage1.model_copy(update={"learning_rate": hot.stage1_learning_rate})
            stage2 = longest.model_copy(update={"learning_rate": hot.stage2_learning_rate})
            run = self._run(hot.projector, seed, stage1=stage1, stage2=stage2)
            cells.append(Cell(f"hot.{hot.projector}", "control_hot", run))
        if config.controls.blind_trained:
            run = self._run("blind", seed, stage2=longest, projector="constant_prefix", options={})
            cells.append(Cell("blind", "control_blind", run))
        spoiled: tuple[tuple[Sabotage, Role, str | None], ...] = (
            ("noise_features", "control_noise", config.controls.noise_features),
            ("permuted_captions", "control_permuted", config.controls.permuted_captions),
        )
        for sabotage, role, label in spoiled:
            if label is not None:
                run = self._run(label, seed, stage2=longest, sabotage=sabotage)
                cells.append(Cell(f"{sabotage.split('_')[0]}.{label}", role, run))
        untrained = config.controls.untrained_projector
        if untrained is not None:
            run = self._run(untrained, seed, stage2=longest, projector_trained=False)
            cells.append(Cell(f"untrained.{untrained}", "control_untrained", run))
        return cells

    @cached_property
    def presets(self) -> list[Cell]:
        """Published experiments; run by a target of their own."""
        return [
            Cell(
                f"{name}.{preset.projector}",
                "preset",
                self._run(
                    preset.projector, preset.seed, stage1=preset.stage1, stage2=preset.stage2
                ),
            )
            for name, preset in self.config.presets.items()
        ]

    def reported(self, chosen: Iterable[str]) -> list[Cell]:
        """The chosen tuning cells, each trained afresh with every report seed."""
        by_name = {cell.name: cell for cell in self.tuning}
        return [
            self._afresh(by_name[name], seed)
            for name in chosen
            for seed in self.config.seeds.report
        ]

    def stage1_resume(self, cell: Cell) -> Path:
        """Resume point of a cell's first stage; its second stage gives it up.

        A job cannot give up its own: killed as it exits, it counts as failed, and Snakemake deletes
        its outputs. Only a later job knows that it succeeded.
        """
        keys = [cell.run.stage1_keys(), rule_code("training")]
        return self.paths.resume(cell.stage1_name, keys)

    def stage2_resume(self, cell: Cell) -> Path:
        """Resume point of a cell's second stage; its captions job gives it up."""
        return self.paths.resume(cell.name, [cell.run.keys(), rule_code("training")])

    def captioners(self, split: str, chosen: Iterable[str] = ()) -> list[str]:
        """Names of everything that captions a held-out split: trained cells, then baselines.

        ``chosen`` are the chosen tuning cells, which decide the report split's.
        """
        held_out = [*self.reported(chosen), *self.controls]
        cells = self.tuning if split == "selection" else held_out
        baselines = [name for name, (_, scored) in BASELINES.items() if scored == split]
        return [cell.name for cell in cells] + baselines

    def by_role(self, reported: Iterable[Cell]) -> dict[str, list[str]]:
        """Role → names of the cells that the report shows, those that train nothing included."""
        roles: dict[str, list[str]] = {}
        for cell in [*reported, *self.tuning, *self.controls]:
            roles.setdefault(cell.role, []).append(cell.name)
        for name, (role, split) in BASELINES.items():
            if split == "report":
                roles.setdefault(role, []).append(name)
        return roles

    def _afresh(self, cell: Cell, seed: int) -> Cell:
        return Cell(cell.label, "report", cell.run.model_copy(update={"seed": seed}))

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell that could come to be, by name; which are chosen is known only after tuning.

        Raises:
            StudyError: two cells with different roles are the same run under one name.
        """
        fresh = self.reported(cell.name for cell in self.tuning)
        cells: dict[str, Cell] = {}
        for cell in [*self.tuning, *fresh, *self.controls, *self.presets]:
            if cell.name in cells:
                raise StudyError(
                    f"cell '{cell.name}' appears twice ({cells[cell.name].role} and {cell.role}); "
                    "expected every cell of the grid to differ from the others."
                )
            cells[cell.name] = cell
        return cells

    @cached_property
    def stage1_cells(self) -> dict[str, Cell]:
        """Stage-1 name → a cell that has this stage 1."""
        return {cell.stage1_name: cell for cell in self.cells.values() if cell.has_stage1}

    # --- features -------------------------------------------------------------------------------

    @cached_property
    def encoder_slug(self) -> str:
        """Folder of the encoder's features: a readable name and a hash of what they depend on."""
        return f"{_slug(self.config.vision.model)}-{_hash(self.config.vision.model_dump())}"

    @cached_property
    def scorer_slug(self) -> str:
        """Folder of the scorer's frame embeddings."""
        keys = {
            "model": self.config.scorer.model,
            "revision": self.config.scorer.revision,
            "frames": self.config.scorer.frames,
            "weights": self.config.scorer.weights,
        }
        return f"scorer-{_slug(self.config.scorer.model)}-{_hash(keys)}"


def cell_pattern(names: Iterable[str]) -> str:
    """A regular expression that matches exactly these names (for a Snakemake wildcard)."""
    return "|".join(re.escape(name) for name in names) or "(?!)"
