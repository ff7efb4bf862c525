"""What a study consists of: its clips, the sizes of its models, and how often it does what.

Nothing is fetched and no weight is opened; what is not on disk is assumed.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_parquet
from siglip_study.config.study import Config
from siglip_study.config.training import LlmConfig, StageConfig, TrainingConfig, VisionConfig
from siglip_study.data.labels import Scan
from siglip_study.features.images import PatchTransform, image_settings, transform_from
from siglip_study.models.families import complete_config, llm_config, patch_grid, tower_config
from siglip_study.models.hub import architecture, image_processor, is_folder
from siglip_study.models.sizes import LlmShape, TowerShape, llm_shape, text_shape, vision_shape
from siglip_study.projectors.base import Projector
from siglip_study.study import Study
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.paths import Paths

#: Clips of the published study, assumed where there is no dataset yet.
ASSUMED_CLIPS = {"train": 865, "held_out": 97}
#: Mean tokens of the published study's captions (311 to 708 long).
ASSUMED_TOKENS = 450
#: Around an assumed mean, lengths are spread evenly between these multiples of it.
_ASSUMED_SPREAD = (0.7, 1.4)
#: Characters a token where captions are at hand and the tokenizer is not (Korean, Qwen3).
_CHARACTERS_A_TOKEN = 1.6
#: Captions that are tokenised; more would not change the mean.
_SAMPLE = 400


@dataclass(frozen=True)
class Assumptions:
    """What is taken for granted in place of what is on disk; None: counted, or a default."""

    train: int | None = None
    held_out: int | None = None
    caption_tokens: int | None = None
    gpu: str = "h200"
    presets: bool = False


# ---- The dataset.


@dataclass(frozen=True)
class Dataset:
    """Clips of each split, and the caption lengths in tokens (EOS included), ascending.

    ``sources`` says in sentences where each of the two comes from.
    """

    clips: dict[str, int]
    lengths: tuple[int, ...]
    sources: tuple[str, ...]

    @property
    def mean_tokens(self) -> float:
        """Mean caption length in tokens."""
        return sum(self.lengths) / len(self.lengths)

    def typical(self, n: int) -> list[int]:
        """``n`` lengths spread over the distribution: the middles of ``n`` equal shares."""
        last = len(self.lengths) - 1
        return [self.lengths[min(last, int((i + 0.5) / n * len(self.lengths)))] for i in range(n)]


def describe_dataset(
    config: Config, tokenizer: Any, given: Assumptions, scan: Callable[[str], Scan]
) -> Dataset:
    """Count clips and measure captions (with the LLM's tokenizer, if at hand), or assume them.

    ``scan`` reads what a split lists.

    Raises:
        StudyError: the dataset is there and a split of it is not.
    """
    clips, captions, source = _clips(config, given, scan)
    limit, tokens = config.training.max_target_tokens, given.caption_tokens
    if tokens is None and captions and tokenizer is not None:
        flat = tokenizer(captions, add_special_tokens=False)["input_ids"]
        lengths, told = [len(row) + 1 for row in flat], f"{len(flat)} captions, tokenised"
    elif tokens is None and captions:
        lengths = [round(len(text) / _CHARACTERS_A_TOKEN) + 1 for text in captions]
        told = (
            f"characters of {len(captions)} captions over {_CHARACTERS_A_TOKEN}, "
            "since the tokenizer is not at hand"
        )
    else:
        mean = tokens or min(ASSUMED_TOKENS, max(1, round(0.75 * limit)))
        low, high = _ASSUMED_SPREAD
        # Symmetric in number, not in length: as many below the mean as above it.
        lengths = [round(mean * (low + (1 - low) * i / 8)) for i in range(8)]
        lengths += [round(mean * (1 + (high - 1) * i / 6)) for i in range(1, 7)]
        told = "assumed"
    cut = sorted(max(1, min(length, limit)) for length in lengths)
    mean_tokens = sum(cut) / len(cut)
    if "held_out" in clips:
        half = clips["held_out"] // 2
        halves = {"selection": half, "report": clips["held_out"] - half}
        clips = {"train": clips["train"], **halves}
    sources = (source, f"captions of {mean_tokens:.0f} tokens on average: {told}")
    return Dataset(clips, tuple(cut), sources)


def _clips(
    config: Config, given: Assumptions, scan: Callable[[str], Scan]
) -> tuple[dict[str, int], list[str], str]:
    """Clips of each split, a sample of captions if they can be read, and where both come from."""
    clips: dict[str, int]
    captions: list[str] = []
    manifest, root = Paths(config.output_dir).manifest, config.data_root
    if given.train is not None or given.held_out is not None:
        named = {"train": given.train, "held_out": given.held_out}
        clips, told = {split: n or ASSUMED_CLIPS[split] for split, n in named.items()}, "as given"
    # The rehearsal also runs on machines without the table reader.
    elif manifest.is_file() and importlib.util.find_spec("polars") is not None:
        rows = read_parquet(manifest, columns=["split", "captions"])
        clips, told = dict(rows["split"].value_counts().iter_rows()), f"counted in {manifest}"
        captions = rows["captions"].explode().to_list()
    elif root.is_dir():
        clips, told = {}, f"counted in {root}"
        for split, folder in config.data.splits.items():
            found = scan(split).clips
            if not found:
                raise StudyError(
                    f"{root / folder}: no clip with a label for split '{split}'; expected at "
                    "least one."
                )
            clips[split] = len(found)
            captions += [text for clip in found for text in clip.captions]
    elif config.demo is not None:
        demo = config.demo
        clips = {"train": demo.train, "selection": demo.selection, "report": demo.report}
        told = "as the demo will make them"
    else:
        clips, told = dict(ASSUMED_CLIPS), f"assumed, since {root} is not there"
    listed = ", ".join(f"{n} {split}" for split, n in clips.items())
    return clips, captions[:: max(1, len(captions) // _SAMPLE)], f"clips {listed}: {told}"


# ---- The models.


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


def connector_of(run: RunSpec) -> Connector:
    """The connector that a run trains."""
    return Connector(run.projector, json.dumps(run.options, sort_keys=True))


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of the four towers, and the patch grid that projectors see."""

    llm: LlmShape
    vision: TowerShape
    scorer_images: TowerShape
    scorer_texts: TowerShape
    grid: tuple[int, int]
    vision_dim: int  # V, the width of the features

    @property
    def patches(self) -> int:
        """P, the patches of a frame."""
        return self.grid[0] * self.grid[1]

    def projector(self, connector: Connector, frames: int, device: str = "meta") -> Projector:
        """A projector of this connector; on ``meta`` it costs neither time nor memory."""
        shape = projectors.FeatureShape(frames, self.grid, self.vision_dim)
        with torch.device(device):
            return projectors.build(connector.type, shape, self.llm.width, **connector.options)


def model_facts(config: Config) -> ModelFacts:
    """Sizes of a study's models, from their config files.

    Raises:
        StudyError: a model's config is not at hand, or is of no supported kind.
    """
    vision, scorer, llm = config.vision, config.scorer, config.llm
    raw, raw_scorer, raw_llm = (
        architecture(part.model, part.revision, f"{key}.model")
        for key, part in (("vision", vision), ("scorer", scorer), ("llm", llm))
    )
    size = frame_size(raw, vision.model, "vision.model")
    scorer_size = frame_size(raw_scorer, scorer.model, "scorer.model")
    # Complete: a config file leaves out what is its family's default.
    tower = tower_config(raw, f"vision.model '{vision.model}'")
    judge = complete_config(raw_scorer, f"scorer.model '{scorer.model}'").to_dict()
    text = llm_config(raw_llm, f"llm.model '{llm.model}'").to_dict()
    # As deep as the last layer that is read.
    cut = [vision_shape(tower.to_dict(), size, layer) for layer in vision.layers]
    tower_shape = max(cut, key=lambda shape: shape.layers)
    return ModelFacts(
        llm=llm_shape(text, f"llm.model {llm.model}"),
        vision=tower_shape,
        scorer_images=vision_shape(judge, scorer_size, -1),
        scorer_texts=text_shape(judge),
        grid=patch_grid(tower, size),
        vision_dim=len(vision.layers) * tower_shape.width,
    )


def frame_size(config: Mapping[str, Any], model: str, key: str) -> tuple[int, int]:
    """(height, width) of a frame: as its image processor makes it where that is at hand."""
    settings = image_processor(model)
    if is_folder(model):
        settings = image_settings(model, None, key, "pretrained")
    if settings is not None:
        made = PatchTransform if config.get("model_type") == "siglip2" else transform_from
        return made(settings, f"{key} '{model}'").size
    tower = tower_config(config, f"{key} '{model}'")
    # NaFlex models have no size, but a number of patches.
    side = getattr(tower, "image_size", None) or math.isqrt(tower.num_patches) * tower.patch_size
    return int(side), int(side)


# ---- The work.


@dataclass(frozen=True)
class StageShape:
    """A distinct optimizer step: stage, connector, clips a forward pass, passes a step."""

    stage: int
    connector: Connector
    batch: int
    accumulation: int


def stage_shape(stage: int, connector: Connector, settings: StageConfig) -> StageShape:
    """The step of a stage with these settings."""
    return StageShape(stage, connector, settings.batch_size, settings.gradient_accumulation)


def seen_by(of: Config | RunSpec) -> tuple[VisionConfig, LlmConfig, TrainingConfig]:
    """What the cost of a training's steps depends on, beside its stages and its connector."""
    return of.vision, of.llm, of.training


class Workload:
    """Units of work of every cell that the study will train, caption and score.

    Which cells are chosen is known only after tuning: each projector's is taken to be one with the
    longest budget. With ``presets`` the published experiments count too. With ``part`` only runs
    count that see what this config does; where others are counted beside them, ``alone`` is False,
    and what all share is left out.
    """

    def __init__(
        self,
        study: Study,
        dataset: Dataset,
        presets: bool = False,
        part: Config | None = None,
        alone: bool = True,
    ) -> None:
        self.config, self.clips, self.alone = part or study.config, dataset.clips, alone
        longest: dict[str, Cell] = {}
        for cell in study.tuning:
            known = longest.setdefault(cell.label, cell)
            if cell.run.stage2.epochs > known.run.stage2.epochs:
                longest[cell.label] = cell
        chosen = [cell.name for cell in longest.values()]
        self.cells = [*study.tuning, *study.controls, *study.reported(chosen)]
        #: what captions by its first stage alone, which a cell above has trained
        self.first_stages = study.first_stages(chosen)
        if presets:
            self.cells += study.presets
        # One cell for each distinct first stage, which parts may share.
        stage1 = {cell.stage1_name: cell for cell in reversed(self.cells) if cell.has_stage1}
        self.stage1_cells = list(reversed(stage1.values()))
        if part is not None:
            own = seen_by(part)
            self.cells = [cell for cell in self.cells if seen_by(cell.run) == own]
            self.stage1_cells = [cell for cell in self.stage1_cells if seen_by(cell.run) == own]
            self.first_stages = [cell for cell in self.first_stages if seen_by(cell.run) == own]

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
        for cell in [*self.cells, *self.first_stages]:
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
        if not self.alone:
            return sum(self.captions.values())
        held_out, report = self.scored_clips, self.clips["report"]
        baselines = 4 * held_out if self.config.cross_fit else 3 * report + held_out
        return sum(self.captions.values()) + baselines + self.clips["train"]

    @property
    def jobs(self) -> int:
        """Jobs that load the LLM: both stages (captions are made while it is loaded), and captions
        of a first stage alone."""
        return len(self.stage1_cells) + len(self.cells) + len(self.first_stages)
