"""The grid that a config spells out: the only place that enumerates cells."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from siglip_study.base.errors import Damaged, StudyError, first_line
from siglip_study.base.io import read_json
from siglip_study.config import axes
from siglip_study.config.study import Config
from siglip_study.config.training import LlmConfig, ProjectorConfig, VisionConfig
from siglip_study.study.cells import (
    BASELINES,
    HELD_OUT,
    Cell,
    Role,
    RunSpec,
    encoder_slug,
    keys_hash,
    slug,
)
from siglip_study.study.paths import Paths

# ---- Which cells were chosen, and which of them report which clips.

#: Schema of ``selection.json``.
SELECTION_SCHEMA = "selection/3"
#: Earlier ones, in which the choice itself is told alike.
_OLDER_SCHEMAS = ("selection/1", "selection/2")
#: Projector → held-out split → the tuning cell whose fresh runs report it.
Choice = Mapping[str, Mapping[str, str]]
#: The scoring jobs: of what chooses, then of what is reported.
Phase = Literal["tuning", "report"]
PHASES: tuple[Phase, ...] = ("tuning", "report")


@dataclass(frozen=True)
class Entrant:
    """What stands for a projector and seed in the ranking: split → the cell that reports it.

    One cell, under its own name, but where the halves of a held-out split chose differently.
    """

    name: str
    label: str
    parts: Mapping[str, str]

    @property
    def is_joined(self) -> bool:
        """Whether two cells report a half each."""
        return len(set(self.parts.values())) > 1


def chosen_cells(choice: Choice) -> list[str]:
    """The distinct tuning cells of a choice, which are trained afresh."""
    return list(dict.fromkeys(name for parts in choice.values() for name in parts.values()))


def read_choice(path: Path) -> Choice:
    """The choice that ``selection.json`` holds.

    That of an earlier version is read too: the study asks what was chosen before it chooses anew.

    Raises:
        StudyError: the file is missing or of another schema, or holds no choice.
    """
    told = read_json(path, SELECTION_SCHEMA, *_OLDER_SCHEMAS)
    try:
        found = {
            label: dict(row.get("reports") or {"report": row["chosen"]})
            for label, row in told["projectors"].items()
        }
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise Damaged(f"{path}: no choice ({first_line(error)})", path) from None
    names = [name for parts in found.values() for name in parts.values()]
    if not all(name is None or isinstance(name, str) for name in names):
        raise Damaged(f"{path}: no choice (the name of a cell is no text)", path)
    return found


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

    def _cell(
        self,
        role: Role,
        label: str,
        seed: int,
        config: Config,
        prefix: str = "",
        settings: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Cell:
        """The cell of a projector under a config, some keys of which are changed."""
        projector = self.config.projectors.get(label, ProjectorConfig())
        keys = {
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
        for name in ("stage1", "stage2"):
            keep = keys[name].keep or config.keeps
            keys[name] = keys[name].model_copy(update={"keep": keep})
        return Cell(prefix + label, role, RunSpec(**keys), self.cross_fit, settings or {})

    @cached_property
    def grids(self) -> dict[str, list[axes.Point]]:
        """Projector → the points of its grid."""
        return {label: axes.points(self.config, label) for label in self.config.projectors}

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Dotted keys that are not alike in all points, rate and epochs last."""
        found = [point for own in self.grids.values() for point in own]
        keys = dict.fromkeys(key for point in found for key in point)
        others = (k for k in keys if any(point.get(k) != found[0].get(k) for point in found))
        return tuple(sorted(others, key=(axes.RATE, axes.EPOCHS).__contains__))

    @cached_property
    def first(self) -> Config:
        """The config of controls, and of what trains nothing but sees an encoder's features."""
        return axes.having(self.config, axes.first_point(self.config))

    @cached_property
    def points(self) -> list[tuple[Cell, ...]]:
        """Every point of the grid, for every projector alike: its runs, one a tuning seed.

        The first one's name is the point's, in the choice as in ``selection.json``.
        """
        made: dict[str, Config] = {}  # of points that projectors share
        found = []
        for label, own in self.grids.items():
            options = self.config.projectors[label].options
            for point in own:
                if repr(point) not in made:
                    made[repr(point)] = axes.having(self.config, point)
                config, told = made[repr(point)], {k: point[k] for k in self.varied if k in point}
                options_here = {**options, **axes.options_of(point)}
                found.append(
                    tuple(
                        self._cell(
                            "tuning", label, seed, config, settings=told, options=options_here
                        )
                        for seed in self.config.seeds.for_tuning
                    )
                )
        return found

    @cached_property
    def tuning(self) -> list[Cell]:
        """The tuning cells: every run of every point."""
        return [cell for runs in self.points for cell in runs]

    @cached_property
    def controls(self) -> list[Cell]:
        """Cells that must fail, at one point of the grid (:func:`axes.first_point`)."""
        config, controls = self.config, self.config.controls
        first = [config.seeds.report[0]]
        # How captions fall decides what is learned of them by chance, so each draw has a
        # permutation and a training of its own, and there are several even with one report seed.
        later = itertools.count(max(config.seeds.report) + 1)
        free = (seed for seed in later if seed not in config.seeds.for_tuning)
        endless = itertools.chain(config.seeds.report, free)
        draws = list(itertools.islice(endless, controls.permuted_draws))
        wanted: list[tuple[Role, str | None, str, list[int], dict[str, Any]]] = []
        if controls.hot is not None:
            rates = controls.hot.stage1_learning_rate, controls.hot.stage2_learning_rate
            stages = (
                stage.model_copy(update={"learning_rate": rate})
                for stage, rate in zip((self.first.stage1, self.first.stage2), rates, strict=True)
            )
            overheated = dict(zip(("stage1", "stage2"), stages, strict=True))
            wanted.append(("control_hot", controls.hot.projector, "hot.", first, overheated))
        if controls.blind_trained:
            blind = {"projector": "constant_prefix", "options": {}}
            wanted.append(("control_blind", "blind", "", first, blind))
        noise, permuted = ({"sabotage": name} for name in ("noise_features", "permuted_captions"))
        untrained = {"projector_trained": False}
        wanted += [
            ("control_noise", controls.noise_features, "noise.", first, noise),
            ("control_permuted", controls.permuted_captions, "permuted.", draws, permuted),
            ("control_untrained", controls.untrained_projector, "untrained.", first, untrained),
        ]
        return [
            self._cell(role, label, seed, self.first, prefix, **changes)
            for role, label, prefix, seeds, changes in wanted
            if label is not None
            for seed in seeds
        ]

    @cached_property
    def presets(self) -> list[Cell]:
        """Published experiments; run by a target of their own."""
        return [
            self._cell(
                "preset",
                preset.projector,
                preset.seed,
                self.config,
                prefix=f"{name}.",
                stage1=preset.stage1,
                stage2=preset.stage2,
            )
            for name, preset in self.config.presets.items()
        ]

    @cached_property
    def _tuning_by_name(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.tuning}

    def _afresh(self, name: str, seed: int) -> Cell:
        """A tuning cell under another seed, to be reported."""
        cell = self._tuning_by_name.get(name)
        if cell is None:
            raise StudyError(
                f"{self.paths.selection}: chose cell {name!r}; expected one of the config's grid."
            )
        return replace(cell, role="report", run=cell.run.model_copy(update={"seed": seed}))

    def reported(self, chosen: Iterable[str]) -> list[Cell]:
        """The chosen tuning cells, each trained afresh with every report seed."""
        return [self._afresh(name, seed) for name in chosen for seed in self.config.seeds.report]

    def first_stages(self, chosen: Iterable[str]) -> list[Cell]:
        """Stage 1 of each chosen cell's first report run as a captioner, where the config asks."""
        if not self.config.controls.stage1_alone:
            return []
        first = self.config.seeds.report[0]
        alone = [replace(self._afresh(name, first), role="control_stage1") for name in chosen]
        return list({cell.name: cell for cell in alone}.values())

    def still_there(self, choice: Choice) -> Choice:
        """The choice without projectors whose chosen cell has left the grid since.

        For a plan: what was chosen from other cells is chosen anew before it is used.
        """
        names = self._tuning_by_name.keys()
        return {label: own for label, own in choice.items() if names >= {*own.values()}}

    def checkpoint(self, cell: Cell) -> Path:
        """The weights that a cell captions with."""
        if cell.role == "control_stage1":
            return self.paths.stage1(cell.stage1_name) / "checkpoint"
        return self.paths.run(cell.name) / "checkpoint"

    def records(self, names: Iterable[str]) -> list[Path]:
        """What the trainings behind these captioners tell of themselves, first stages last."""
        cells = [self.cells[name] for name in names if name in self.cells]
        trained = [cell for cell in cells if cell.role != "control_stage1"]
        parents = sorted({cell.stage1_name for cell in trained if cell.has_stage1})
        history = ("steps.parquet", "epochs.parquet")
        return [
            *(self.paths.run(c.name) / file for c in trained for file in ("cell.json", *history)),
            *(self.paths.stage1(p) / file for p in parents for file in ("stage.json", *history)),
        ]

    def stage1_resume(self, cell: Cell, code: str) -> Path:
        """Resume point of a cell's first stage; its second stage gives it up.

        A job cannot give up its own: killed as it exits, it counts as failed, and Snakemake deletes
        its outputs. Only a later job knows that it succeeded.
        """
        return self.paths.resume(cell.stage1_name, [cell.run.stage1_keys(), code])

    def stage2_resume(self, cell: Cell, code: str) -> Path:
        """Resume point of a cell's second stage; its captions job gives it up."""
        return self.paths.resume(cell.name, [cell.run.keys(), code])

    def scored_splits(self, phase: Phase) -> tuple[str, ...]:
        """The held-out splits that a scoring job scores: under cross-fitting both halves."""
        if self.cross_fit:
            return HELD_OUT
        return ("selection",) if phase == "tuning" else ("report",)

    def references(self, phase: Phase) -> Path:
        """Folder of the human captions' scores.

        Those on clips that only choose lie apart from those that are reported.
        """
        folder = self.paths.run("references")
        return folder if self.cross_fit or phase == "report" else folder / "selection"

    def captioners(self, phase: Phase, choice: Choice) -> list[str]:
        """Names of everything that a scoring job scores: trained cells, then baselines."""
        if phase == "tuning":
            return [*(cell.name for cell in self.tuning), "references"]
        chosen = chosen_cells(choice)
        trained = [*self.reported(chosen), *self.controls, *self.first_stages(chosen)]
        return [*(cell.name for cell in trained), *BASELINES]

    def entrants(self, choice: Choice) -> list[Entrant]:
        """What is ranked: one entrant a projector and seed, in the order of the choice."""
        found = []
        for label, reports in choice.items():
            for seed in self.config.seeds.report:
                parts = {split: self._afresh(name, seed).name for split, name in reports.items()}
                alone = set(parts.values())
                name = alone.pop() if len(alone) == 1 else f"{label}.seed{seed}"
                found.append(Entrant(name, label, parts))
        return found

    def by_role(self, choice: Choice) -> dict[str, list[str]]:
        """Role → names of the captioners that the report compares, entrants first."""
        roles: dict[str, list[str]] = {"report": [entry.name for entry in self.entrants(choice)]}
        for cell in [*self.tuning, *self.controls, *self.first_stages(chosen_cells(choice))]:
            roles.setdefault(cell.role, []).append(cell.name)
        for name, role in BASELINES.items():
            roles.setdefault(role, []).append(name)
        return roles

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """Every cell that could come to be, by name; which are chosen is known only after tuning.

        Raises:
            StudyError: two cells with different roles are the same run under one name.
        """
        fresh = self.reported(runs[0].name for runs in self.points)
        cells: dict[str, Cell] = {}
        alone = self.first_stages(runs[0].name for runs in self.points)
        for cell in [*self.tuning, *fresh, *self.controls, *self.presets, *alone]:
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
        return {cell.stage1_name: cell for cell in reversed(self.cells.values()) if cell.has_stage1}

    # --- features -------------------------------------------------------------------------------

    @cached_property
    def encoders(self) -> dict[str, VisionConfig]:
        """Folder of features → the encoder, and what it reads of a clip; the controls' first."""
        used = [self.first.vision, *(cell.run.vision for cell in self.cells.values())]
        return {encoder_slug(vision): vision for vision in used}

    @cached_property
    def llms(self) -> list[LlmConfig]:
        """The language models, each with the first prompt and adapters that it has."""
        found: dict[tuple[Any, ...], LlmConfig] = {}
        for llm in [self.first.llm, *(cell.run.llm for cell in self.cells.values())]:
            parts = llm.model, llm.revision, llm.weights, llm.quantization, llm.matmul
            found.setdefault(parts, llm)
        return list(found.values())

    @cached_property
    def encoder_slug(self) -> str:
        """Folder of the features that controls and baselines see."""
        return encoder_slug(self.first.vision)

    @cached_property
    def scorer_slug(self) -> str:
        """Folder of the scorer's frame embeddings."""
        scorer = self.config.scorer
        keys = scorer.model_dump(include={"model", "revision", "frames", "weights"})
        return f"scorer-{slug(scorer.model)}-{keys_hash(keys)}"


def cell_pattern(names: Iterable[str]) -> str:
    """A regular expression for cells called ``<label>_<8 hex>``, by the labels of these names.

    Snakemake carries it in the text of every path with a wildcard, and goes through that again for
    every job: a thousand names would make planning take twice as long. Whether a cell is of the
    study is asked of the study.
    """
    labels = sorted({name.rpartition("_")[0] for name in names})
    return f"(?:{'|'.join(map(re.escape, labels))})_[0-9a-f]{{8}}" if labels else "(?!)"
