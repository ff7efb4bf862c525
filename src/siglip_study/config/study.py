"""Parts of the config around the trainings: data, grid, seeds, controls, scores, runtime."""

from __future__ import annotations

import reprlib
from os.path import normpath
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from siglip_study.config.axes import points
from siglip_study.config.training import (
    LlmConfig,
    ProjectorConfig,
    StageConfig,
    TrainingConfig,
    VisionConfig,
)
from siglip_study.config.types import (
    MOST_LISTED,
    Axis,
    Count,
    CountOrNone,
    Entry,
    Fraction,
    Frames,
    HomePath,
    Label,
    ModelSection,
    NotNegative,
    Number,
    OutputPath,
    Positive,
    Rate,
    Section,
    Seed,
)


class DemoConfig(Section):
    """The embedded procedural world; present only in the demo."""

    train: Count = Field(200, description="Training clips.")
    selection: Count = Field(60, description="Clips that choose cells.")
    report: Count = Field(60, description="Clips that are published.")
    seed: Seed = Field(7, description="Seed of scenes, captions and rendering.")


class DataConfig(Section):
    """Where the clips and captions are, and which are usable."""

    root: HomePath | None = Field(None, description="Dataset folder; null only with `demo`.")
    layout: str = Field(
        "aihub",
        description="Reader of the folder, by exact name; `module:function` is one of your own.",
    )
    splits: dict[Literal["train", "selection", "report", "held_out"], str] = Field(
        {"train": "train", "selection": "selection", "report": "report"},
        description="Folder of each split; `held_out` instead of the last two is halved by group.",
    )
    cross_fit: bool = Field(
        True,
        description="Exchange the halves of `held_out`: each is reported with what the other "
        "chose; false: one chooses, the other alone is reported.",
    )
    video_folder: str | None = Field(
        None, description="Folder of the videos, if the layout leaves a choice; null: its own."
    )
    label_folder: str | None = Field(
        None, description="Folder of the labels, if the layout leaves a choice; null: its own."
    )
    id_key: str | None = Field(None, description="Column of the clip's id; null: the layout's.")
    path_key: str | None = Field(None, description="Column of the file's path; null: the layout's.")
    caption_key: str | None = Field(
        None, description="Column, or dotted key, of the caption; null: the layout's."
    )
    group_key: str | None = Field(
        None, description="Column, or dotted key, of the source video; null: the layout's."
    )
    category_key: str | None = Field(
        None, description="Column, or dotted key, of the category; null: the layout's."
    )
    start_key: str | None = Field(
        None, description="Column of a segment's start in seconds; null: the layout's."
    )
    end_key: str | None = Field(
        None, description="Column of a segment's end in seconds; null: the layout's."
    )
    ignore_keys: tuple[str, ...] = Field(
        (), description="Columns of a table that are to be left unread; `*`: all others."
    )
    follow_links: bool = Field(
        False, description="Follow links in the dataset's folder, to other disks too."
    )
    language: Literal["ko", "en", "other"] = Field("ko", description="Language of the captions.")
    min_duration_s: Positive = Field(0.5, description="Shorter clips are rejected.")
    min_frames: Count = Field(2, description="Clips with fewer frames are rejected.")
    decoder: Literal["decord", "pyav"] = Field(
        "pyav",
        description="Video decoder; decord: of the clips on which it gives the same frames.",
    )
    workers: Annotated[int, Field(ge=0, le=1024), Number] = Field(
        0, description="Decoding workers; 0: one a core."
    )

    @model_validator(mode="after")
    def _splits_are_complete(self) -> DataConfig:
        names = set(self.splits)
        if names not in ({"train", "selection", "report"}, {"train", "held_out"}):
            raise ValueError(
                "splits must name train with selection and report, or train with held_out; found "
                + ", ".join(sorted(names))
            )
        homes: dict[str, str] = {}
        for name, folder in self.splits.items():
            other = homes.setdefault(normpath(folder), name)
            if other != name:
                raise ValueError(
                    f"splits.{name} is {folder!r}, as is {other}; expected a folder for each split"
                )
        return self


class GridConfig(Section):
    """Axes that are tuned for every projector alike: stage 2's rate and epochs, and others.

    Any key under ``vision``, ``llm``, ``training``, ``stage1`` or ``stage2`` may be one, by its
    dotted name (:mod:`siglip_study.config.axes`): ``llm.lora.r: [8, 16]``.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Axis[Any]] = Field(init=False)

    learning_rate: Axis[Rate] = Field((2e-5, 5e-5), description="Rates.")
    epochs: Axis[Count] = Field((3,), description="Budgets.")
    exclude: tuple[Entry, ...] = Field(
        (),
        max_length=MOST_LISTED,
        description="Left out: every point that has all values of an entry, such as "
        "`{projector: linear, llm.lora.r: 8}`.",
    )
    include: tuple[Entry, ...] = Field(
        (),
        max_length=MOST_LISTED,
        description="Added: the values of an entry, with every value of the axes that it does not "
        "name.",
    )


class SeedConfig(Section):
    """What tunes is never reported."""

    tuning: Seed | Annotated[tuple[Seed, ...], Field(max_length=MOST_LISTED)] = Field(
        0,
        description="Seed of the tuning cells, or a list: each is trained with every one of them, "
        "and chosen by its mean.",
    )
    report: tuple[Seed, ...] = Field(
        (1, 2, 3),
        min_length=1,
        max_length=MOST_LISTED,
        description="Fresh seeds of the chosen cell.",
    )

    @model_validator(mode="before")
    @classmethod
    def _tunes_with_one_or_several(cls, given: Any) -> Any:
        tuning = given.get("tuning", 0) if isinstance(given, dict) else 0
        seeds = tuning if isinstance(tuning, list | tuple) else [tuning]
        if not 0 < len(seeds) <= MOST_LISTED or any(
            type(seed) is not int or not 0 <= seed < 2**63 for seed in seeds
        ):
            raise ValueError(
                f"tuning is {reprlib.repr(tuning)}; expected a whole number from 0 to 2**63 - 1, "
                f"or a list of them, {MOST_LISTED} at most"
            )
        return given

    @model_validator(mode="after")
    def _tuning_is_never_reported(self) -> SeedConfig:
        if len(set(self.for_tuning)) != len(self.for_tuning):
            raise ValueError("tuning must hold seeds that differ")
        if {*self.for_tuning} & {*self.report} or len(set(self.report)) != len(self.report):
            raise ValueError("report must hold seeds that differ, also from the tuning seeds")
        return self

    @property
    def for_tuning(self) -> tuple[int, ...]:
        """Seeds of every tuning cell."""
        return (self.tuning,) if isinstance(self.tuning, int) else self.tuning


class HotControl(Section):
    """A cell hot enough to collapse: shows that the gate works. Never ranked."""

    projector: Label = Field(description="Label of the projector that is overheated.")
    stage1_learning_rate: Rate = Field(description="Its stage-1 rate.")
    stage2_learning_rate: Rate = Field(description="Its stage-2 rate.")


class ControlsConfig(Section):
    """Cells that must fail, so that success means something."""

    hot: HotControl | None = Field(None, description="Positive control of the collapse gate.")
    blind_trained: bool = Field(
        True, description="LoRA trained with a learned constant in the video's place."
    )
    noise_features: Label | None = Field(
        None, description="Projector trained on noise in place of the features."
    )
    permuted_captions: Label | None = Field(
        None, description="Projector trained on permuted captions, `permuted_draws` times over."
    )
    permuted_draws: Annotated[int, Field(ge=2, le=1000), Number] = Field(
        5,
        description="How often captions are permuted anew, each time with a training seed of its "
        "own; judged together. Fewer seldom suffice to call the control ungrounded.",
    )
    untrained_projector: Label | None = Field(
        None, description="Projector left at its initialisation; adapters alone train."
    )
    stage1_alone: bool = Field(
        False,
        description="Caption with stage 1 of each chosen cell's first report run, as it stands: "
        "what could be told before stage 2. Trains nothing more.",
    )


class CaptionConfig(Section):
    """Generation of captions."""

    max_new_tokens: Count = Field(768, description="Token budget; must cover the references.")
    batch_size: Count | None = Field(
        None, description="Clips captioned together; null: as many as memory holds."
    )
    repetition_penalty: Positive = Field(1.0, description="1: off; the published runs used 1.2.")
    shuffles: Annotated[int, Field(ge=1, le=1000), Number] = Field(
        4, description="Other clips whose video each reference is tried with."
    )


class ScorerConfig(ModelSection):
    """The SigLIP-family model that scores captions; never the captioning encoder."""

    model: HomePath = Field(
        "google/siglip2-so400m-patch14-384", description="Hub id or local folder."
    )
    frames: Frames = Field(8, description="Frames scored a clip.")
    lowercase: bool = Field(True, description="SigLIP 2 was trained on lower-cased text.")
    stop_if_blind: bool = Field(
        True,
        description="Stop before training if it cannot tell human captions of their own clip from "
        "others'; false: train all the same, and report without a verdict.",
    )

    def scoring_keys(self) -> dict[str, Any]:
        """What scores depend on: all but the switch, which may be turned without scoring anew."""
        return self.model_dump(exclude={"stop_if_blind"})


class BertScoreConfig(Section):
    """The encoder behind BERTScore; absent means “not computed”, said in the report."""

    model: HomePath = Field(description="Local folder or hub id.")
    layer: Annotated[int, Field(ge=1, le=1000), Number] = Field(
        description="Hidden layer that is compared."
    )


class GateConfig(Section):
    """Thresholds of the collapse gate."""

    min_effective_ratio: Fraction = Field(
        0.5, description="Effective captions under this share of the references' is low diversity."
    )
    top_share_floor: Fraction = Field(0.10, description="Top cluster over this share…")
    top_share_ratio: Positive = Field(2.0, description="…or over this multiple of the references'.")
    templated_reference: Fraction = Field(
        0.2, description="References under this value are templated: the diversity test is off."
    )
    ungrounded_ratio: Fraction = Field(
        0.1, description="Upper bound of M under this share of the references' M: ungrounded."
    )
    within_category: bool = Field(
        True,
        description="Grounded asks for M within category too, if the references have it.",
    )
    alpha: Annotated[float, Field(gt=0.0, lt=1.0), Number] = Field(
        0.05, description="Level of every test in the study."
    )


class ReportConfig(Section):
    """What the page shows beyond the numbers."""

    title: str = Field("Which projector?", description="Title of the report.")
    language: Literal["en", "ko"] = Field(
        "en", description="Language the page opens in; it holds both."
    )
    dataset: str = Field("", description="Name of the dataset on the page; empty: its folder's.")
    repository: str = Field("", description="Address that the page tells to clone the code from.")
    gallery_clips: CountOrNone = Field(200, description="Clips with pictures.")
    gallery_frames: Frames = Field(8, description="Frames of a picture.")


class RuntimeConfig(Section):
    """Speed and memory; nothing here may change a result beyond rounding."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one."
    )
    cpu_threads: Annotated[int, Field(ge=1, le=1024), Number] | None = Field(
        None,
        description="With device: cpu: cores of a job with a model, so that --cores 8 runs eight "
        "jobs of one core; null: all cores, one job at a time.",
    )
    gpus: Annotated[int, Field(ge=1, le=64), Number] = Field(
        1, description="GPUs a training job works on, data-parallel."
    )
    memory_gb: Positive | None = Field(
        None, description="GPU memory (GiB) a job may fill; null: what is free when it starts."
    )
    checkpointing: Literal["auto", "all", "none"] = Field(
        "auto",
        description="LLM layers recomputed in the backward pass; auto: as few as memory allows.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto", description="Compile the LLM's layers; auto: on a GPU."
    )
    encode_batch_clips: Count = Field(16, description="Clips encoded together.")
    shard_clips: Count = Field(64, description="Clips a feature shard; a killed job keeps shards.")
    eval_batch_clips: Count = Field(32, description="Clips a validation batch.")
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(
        (),
        description="Trackers that get every training's curves too, under `<output_dir>/tracking`; "
        "each is a package to install. wandb stays offline.",
    )
    save_minutes: Positive = Field(10.0, description="Longest work lost to a kill within an epoch.")
    keep_loaded_s: NotNegative = Field(
        60.0,
        description="Seconds that a process with the libraries loaded (of trainings on a GPU: and "
        "the LLM) waits for the next job with a model; 0: each job loads them anew.",
    )
    mem_mb: Annotated[int, Field(ge=1, le=100_000_000), Number] = Field(
        8000,
        description="Memory (MB) that a job with a model asks for; tried again, it asks for more.",
    )
    runtime_minutes: Annotated[int, Field(ge=1, le=1_000_000), Number] = Field(
        60,
        description="Minutes that a job with a model asks for; tried again, it asks for more.",
    )

    @model_validator(mode="after")
    def _threads_are_counted_on_the_cpu_alone(self) -> RuntimeConfig:
        if self.cpu_threads is not None and self.device != "cpu":
            raise ValueError(
                f"cpu_threads is {self.cpu_threads} and device {self.device}; expected device: cpu "
                "with it"
            )
        return self


class PresetConfig(Section):
    """A published experiment: a run of its own, stamped as unequal, never ranked with the grid."""

    projector: Label = Field(description="Label in `projectors`.")
    stage1: StageConfig = Field(description="Its first stage.")
    stage2: StageConfig = Field(description="Its second stage.")
    seed: Seed = Field(42, description="Published seed.")


class Config(Section):
    """The whole study."""

    output_dir: OutputPath = Field("results", description="Where everything computed goes.")
    demo: DemoConfig | None = Field(None, description="Makes its own clips; see DemoConfig.")
    data: DataConfig = Field(DataConfig(), description="Clips and captions.")
    vision: VisionConfig = Field(VisionConfig(), description="Frozen encoder.")
    llm: LlmConfig = Field(LlmConfig(), description="Language model.")
    projectors: dict[Label, ProjectorConfig] = Field(
        min_length=1,
        max_length=MOST_LISTED,
        description="The projectors under comparison, by label.",
    )
    training: TrainingConfig = Field(TrainingConfig(), description="Shared by both stages.")
    stage1: StageConfig = Field(StageConfig(), description="Projector alone.")
    stage2: StageConfig = Field(
        StageConfig(epochs=3, learning_rate=5e-5), description="Projector and LoRA."
    )
    grid: GridConfig = Field(
        GridConfig(),
        description="Tuned axes; `llm.lora.r: [8, 16]` makes one of any key under `vision`, `llm`, "
        "`training`, `stage1` and `stage2`.",
    )
    seeds: SeedConfig = Field(SeedConfig(), description="Tuning and report seeds.")
    controls: ControlsConfig = Field(ControlsConfig(), description="Cells that must fail.")
    presets: dict[Label, PresetConfig] = Field(
        {}, max_length=MOST_LISTED, description="Published experiments by name."
    )
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
        if self.vision.frames_per_second is not None and self.data.decoder == "decord":
            raise ValueError(
                "data.decoder is decord, which is held to fixed numbers of frames; expected pyav "
                "with vision.frames_per_second"
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
    def sampled_frames(self) -> tuple[int, ...]:
        """Numbers of frames a clip on which ways of reading it are compared.

        decord is held to every frame that the study will ask for. PyAV needs no such proof of each:
        another number of frames is no reason to read all clips again.
        """
        if self.data.decoder == "pyav":
            return (8,)
        read = {
            point.get("vision.frames", self.vision.frames)
            for label in self.projectors
            for point in points(self, label)
        }
        return tuple(sorted({*read, self.scorer.frames, self.report.gallery_frames}))

    @property
    def data_root(self) -> Path:
        """The dataset's folder; the demo writes its own under ``output_dir``."""
        return Path(self.data.root or f"{self.output_dir}/demo")
