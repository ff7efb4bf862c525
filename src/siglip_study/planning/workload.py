"""What the grid asks for: how many steps, clips and texts of each distinct shape."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from siglip_study.config.training import StageConfig
from siglip_study.planning.premises import Dataset
from siglip_study.study import Study
from siglip_study.study.cells import Cell, RunSpec


@dataclass(frozen=True)
class Connector:
    """A projector as it is built: cells that differ in labels, rates or seeds alone share it."""

    type: str
    options_json: str

    @property
    def options(self) -> dict[str, Any]:
        """Options as the config gives them."""
        options: dict[str, Any] = json.loads(self.options_json)
        return options


@dataclass(frozen=True)
class StageShape:
    """A distinct optimizer step: stage, connector, clips a forward pass, passes a step."""

    stage: int
    connector: Connector
    batch: int
    accumulation: int


def connector_of(run: RunSpec) -> Connector:
    """The connector that a run trains."""
    return Connector(run.projector, json.dumps(run.options, sort_keys=True))


def stage_shape(stage: int, connector: Connector, settings: StageConfig) -> StageShape:
    """The step of a stage with these settings."""
    return StageShape(stage, connector, settings.batch_size, settings.gradient_accumulation)


class Workload:
    """Units of work of every cell that the study will train, caption and score.

    Which cells are chosen is known only after tuning: each projector's is taken to be one with the
    longest budget. With ``presets`` the published experiments count too.
    """

    def __init__(self, study: Study, dataset: Dataset, presets: bool = False) -> None:
        self.config, self.clips = study.config, dataset.clips
        longest: dict[str, Cell] = {}
        for cell in study.tuning:
            known = longest.setdefault(cell.label, cell)
            if cell.run.stage2.epochs > known.run.stage2.epochs:
                longest[cell.label] = cell
        self.cells = [*study.tuning, *study.controls]
        self.cells += study.reported(cell.name for cell in longest.values())
        if presets:
            self.cells += study.presets

    @cached_property
    def stage1_cells(self) -> list[Cell]:
        """One cell for each distinct first stage."""
        return list({cell.stage1_name: cell for cell in self.cells if cell.has_stage1}.values())

    @cached_property
    def connectors(self) -> dict[Connector, str]:
        """Distinct connectors, in the order of the config, with the first label of each."""
        found: dict[Connector, str] = {}
        for cell in self.cells:
            found.setdefault(connector_of(cell.run), cell.label)
        return found

    def _trainings(self) -> Iterator[tuple[int, Connector, StageConfig]]:
        for cell in self.stage1_cells:
            yield 1, connector_of(cell.run), cell.run.stage1
        for cell in self.cells:
            yield 2, connector_of(cell.run), cell.run.stage2

    @cached_property
    def steps(self) -> Counter[StageShape]:
        """Optimizer steps of each shape."""
        found: Counter[StageShape] = Counter()
        for stage, connector, settings in self._trainings():
            shape = stage_shape(stage, connector, settings)
            an_epoch = math.ceil(self.clips["train"] / (shape.batch * shape.accumulation))
            found[shape] += settings.epochs * an_epoch
        return found

    def _each_epoch(self, units: int) -> Counter[Connector]:
        found: Counter[Connector] = Counter()
        for _, connector, settings in self._trainings():
            found[connector] += settings.epochs * units
        return found

    @cached_property
    def validation(self) -> Counter[Connector]:
        """Forward passes of one clip with its caption, after each epoch."""
        return self._each_epoch(self.clips["selection"])

    @cached_property
    def quick_captions(self) -> Counter[Connector]:
        """Short captions written after each epoch to watch for collapse."""
        return self._each_epoch(min(self.config.training.quick_clips, self.clips["selection"]))

    @cached_property
    def captions(self) -> Counter[Connector]:
        """Captions written for the tables; as many clips have their condition losses taken."""
        found: Counter[Connector] = Counter()
        for cell in self.cells:
            found[connector_of(cell.run)] += sum(self.clips[split] for split in cell.captioned)
        return found

    @property
    def encoded_clips(self) -> int:
        """Clips that the vision encoder sees."""
        return sum(self.clips.values())

    @property
    def scored_clips(self) -> int:
        """Clips whose frames the scorer sees."""
        return self.clips["selection"] + self.clips["report"]

    @property
    def scored_captions(self) -> int:
        """Captions that the scorer reads, those of the baselines included.

        Among the train captions the adversaries look for the best one.
        """
        held_out, report = self.scored_clips, self.clips["report"]
        baselines = 4 * held_out if self.config.cross_fit else 3 * report + held_out
        return sum(self.captions.values()) + baselines + self.clips["train"]

    @property
    def jobs(self) -> int:
        """Jobs that load the LLM: both stages (captions are made while it is loaded)."""
        return len(self.stage1_cells) + len(self.cells)
