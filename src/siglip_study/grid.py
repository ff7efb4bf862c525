"""A cell of the grid ↔ its path: the only place that spells paths and enumerates runs.

A *run* is everything a training result depends on. A *cell* is a run under a name:
``<projector label>_<8 hex of the run keys that differ from the defaults>``, so a new key whose
default is the old behaviour renames nothing.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from siglip_study.choice import Choice, Entry, Scoring
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
# Under cross-fitting these are the halves A and B of the one held-out split.
HELD_OUT = ("selection", "report")
# Captioners that train nothing: name → role.
BASELINES = {
    "references": "references",
    "retrieval": "control_retrieval",
    "generic": "control_generic",
    "category": "control_category",
    # The references as scored on clips that only choose.
    "references.selection": "references",
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
        keys = self.keys()
        keys.pop("stage2", None)
        # Adapters belong to stage 2.
        keys.get("llm", {}).pop("lora", None)
        if keys.get("llm") == {}:
            del keys["llm"]
        return keys

    def keys(self) -> dict[str, Any]:
        """The keys that differ from the defaults; weights kept by validation loss go unsaid."""
        unsaid = {
            name: stage.model_copy(update={"keep": None})
            for name, stage in (("stage1", self.stage1), ("stage2", self.stage2))
            if stage.keep == "val_loss"
        }
        return self.model_copy(update=unsaid).model_dump(exclude_defaults=True, mode="json")


def _hash(keys: Mapping[str, Any]) -> str:
    text = json.dumps(keys, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _slug(model: str) -> str:
    """A readable, path-safe name of a model id or folder."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model.rstrip("/").split("/")[-1]).strip("-.") or "model"


@dataclass(frozen=True)
class Cell:
    """A run under its name, with the role it plays in the study.

    ``captioned`` are the held-out splits it captions: ``selection`` for a tuning cell, else
    ``report``; under cross-fitting (``exchanged``) these are halves A and B, and every cell but a
    preset captions both.
    """

    label: str
    role: Role
    run: RunSpec
    exchanged: bool = False

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
    def captioned(self) -> tuple[str, ...]:
        if self.exchanged and self.role != "preset":
            return HELD_OUT
        return ("selection",) if self.role == "tuning" else ("report",)


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
        self.pooled = self.tables / "pooled.json"
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

    def scored(self, cell: str, half: str) -> Path:
        """The scores of a cell on one half, under cross-fitting; both together lie in ``run``."""
        return self.root / "halves" / half / cell

    def scores(self, scoring: str) -> Path:
        """Index of the cells that a scoring job scored."""
        return self.tables / f"scores.{scoring}.json"

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

    @property
    def cross_fit(self) -> bool:
        """Whether the halves of one held-out split choose for each other."""
        return self.config.cross_fit

    # --- runs -----------------------------------------------------------------------------------

    def _cell(self, label: str, role: Role, run: RunSpec) -> Cell:
        return Cell(label, role, run, self.cross_fit)

    def _run(self, label: str, seed: int, **changes: Any) -> RunSpec:
        config = self.config
        projector = config.projectors.get(label, ProjectorConfig())
        run = RunSpec(
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
        return run.model_copy(
            update={
                name: stage.model_copy(update={"keep": stage.keep or config.keeps})
                for name, stage in (("stage1", run.stage1), ("stage2", run.stage2))
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
            self._cell(label, "tuning", self._run(label, seed, stage2=stage2))
            for label in self.config.projectors
            for stage2 in self._axes(label)
        ]

    @property
    def draw_seeds(self) -> list[int]:
        """Seeds of the draws of permuted captions: the report seeds, then those that follow them.

        How the captions fall decides what is learned of them by chance, so each draw has a
        permutation and a training of its own, and there are several even with one report seed.
        """
        seeds = self.config.seeds
        later = (s for s in itertools.count(max(seeds.report) + 1) if s != seeds.tuning)
        endless = itertools.chain(seeds.report, later)
        return list(itertools.islice(endless, self.config.controls.permuted_draws))

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
            cells.append(self._cell(f"hot.{hot.projector}", "control_hot", run))
        if config.controls.blind_trained:
            run = self._run("blind", seed, stage2=longest, projector="constant_prefix", options={})
            cells.append(self._cell("blind", "control_blind", run))
        spoiled: tuple[tuple[Sabotage, Role, str | None], ...] = (
            ("noise_features", "control_noise", config.controls.noise_features),
            ("permuted_captions", "control_permuted", config.controls.permuted_captions),
        )
        for sabotage, role, label in spoiled:
            if label is None:
                continue
            for drawn in self.draw_seeds if sabotage == "permuted_captions" else [seed]:
                run = self._run(label, drawn, stage2=longest, sabotage=sabotage)
                cells.append(self._cell(f"{sabotage.split('_')[0]}.{label}", role, run))
        untrained = config.controls.untrained_projector
        if untrained is not None:
            run = self._run(untrained, seed, stage2=longest, projector_trained=False)
            cells.append(self._cell(f"untrained.{untrained}", "control_untrained", run))
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

    @cached_property
    def scorings(self) -> dict[str, Scoring]:
        """The scoring jobs by name: what chooses, then what is reported."""
        if not self.cross_fit:
            return {split: Scoring(split, split, split == "selection") for split in HELD_OUT}
        halves = list(zip(HELD_OUT, reversed(HELD_OUT), strict=True))
        tuned = [Scoring(f"tuning.{half}", half, True, other) for half, other in halves]
        reported = [Scoring(half, half, False, other) for half, other in halves]
        return {job.name: job for job in [*tuned, *reported]}

    def references_in(self, scoring: Scoring) -> str:
        """Name of the human captions as a scoring job scores them."""
        choose_only = scoring.tunes and not self.cross_fit
        return "references.selection" if choose_only else "references"

    def captioners(self, scoring: Scoring, choice: Choice | None = None) -> list[str]:
        """Names of everything that a scoring job scores: trained cells, then baselines.

        ``choice`` decides which fresh cells report the split; a job of tuning cells needs none.
        """
        if scoring.tunes:
            return [*(cell.name for cell in self.tuning), self.references_in(scoring)]
        fresh = [entry.parts[scoring.split] for entry in self.entries(choice or {})]
        controls = [cell.name for cell in self.controls]
        return fresh + controls + [name for name in BASELINES if name != "references.selection"]

    def entries(self, choice: Choice) -> list[Entry]:
        """What is ranked: one entry a projector and seed, in the order of the choice."""
        by_name = {cell.name: cell for cell in self.tuning}
        entries = []
        for label, reports in choice.items():
            for seed in self.config.seeds.report:
                parts = {
                    split: self._afresh(by_name[name], seed).name for split, name in reports.items()
                }
                alone = set(parts.values())
                name = alone.pop() if len(alone) == 1 else f"{label}.seed{seed}"
                entries.append(Entry(name, label, parts))
        return entries

    def parts(self, choice: Choice) -> dict[str, Mapping[str, str]]:
        """Captioner → half → the cell that is scored on it, of all that a report shows.

        Where two cells report a half each, both are there alone beside what they are together.
        """
        both = [*self.tuning, *self.controls]
        parts: dict[str, Mapping[str, str]] = {
            name: dict.fromkeys(HELD_OUT, name)
            for name in [*(cell.name for cell in both), *BASELINES]
            if name != "references.selection"
        }
        for entry in self.entries(choice):
            parts[entry.name] = entry.parts
            if entry.is_joined:
                parts |= {cell: {half: cell} for half, cell in entry.parts.items()}
        return parts

    def by_role(self, choice: Choice) -> dict[str, list[str]]:
        """Role → names of the cells that the report shows, those that train nothing included.

        Where two cells report a half each, they stand as ``half`` beside their ``report`` entry.
        """
        entries = self.entries(choice)
        roles: dict[str, list[str]] = {"report": [entry.name for entry in entries]}
        halves = [part for e in entries if e.is_joined for part in dict.fromkeys(e.parts.values())]
        if halves:
            roles["half"] = halves
        for cell in [*self.tuning, *self.controls]:
            roles.setdefault(cell.role, []).append(cell.name)
        for name, role in BASELINES.items():
            if name != "references.selection":
                roles.setdefault(role, []).append(name)
        return roles

    def _afresh(self, cell: Cell, seed: int) -> Cell:
        return self._cell(cell.label, "report", cell.run.model_copy(update={"seed": seed}))

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
