"""What each part of a study costs on a named GPU, by formula: time, memory and disk.

FLOP are those of :mod:`siglip_study.models.sizes`. What they leave out (norms, rotations,
activations) is bound by memory: the assumed efficiency of a GPU allows for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

from siglip_study.config.axes import told_value
from siglip_study.config.study import Config
from siglip_study.data.labels import Scan
from siglip_study.data.layouts import scan_split
from siglip_study.models import sizes
from siglip_study.models.hub import has_tokenizer, is_folder
from siglip_study.models.llm import PromptLayout, load_tokenizer, prompt_layout
from siglip_study.models.sizes import LlmShape, SequenceShape
from siglip_study.planning.workload import (
    Assumptions,
    Connector,
    Dataset,
    ModelFacts,
    StageShape,
    Workload,
    connector_of,
    describe_dataset,
    model_facts,
    seen_by,
)
from siglip_study.projectors.base import Projector
from siglip_study.study import Study
from siglip_study.training.memory import GIB, ClipCost, bytes_needed, kept_layers, least_pass

# ---- GPUs by name: what their makers state, and what of it a study is assumed to reach.

#: Share of the stated rate of arithmetic, and of the stated bandwidth, assumed to be reached.
EFFICIENCY = 0.6


@dataclass(frozen=True)
class Gpu:
    """A GPU: dense bf16 rate (TFLOP/s), bandwidth (GB/s) and memory (GiB) as PyTorch sees it.

    Rates are the data sheets', with fp32 accumulation; ``marks`` tell a device's name from others.
    """

    name: str
    tflops: float
    gb_per_s: float
    gib: float
    marks: tuple[str, ...] = ()

    def seconds(self, flops: float, traffic: float = 0.0) -> float:
        """Time of work bound by arithmetic (FLOP) or by memory traffic (bytes), the longer one."""
        compute = flops / (self.tflops * 1e12 * EFFICIENCY)
        memory = traffic / (self.gb_per_s * 1e9 * EFFICIENCY)
        return max(compute, memory)


GPUS: dict[str, Gpu] = {
    "h200": Gpu("H200", 989, 4800, 139.8, ("H200",)),
    "h100": Gpu("H100 SXM 80 GB", 989, 3350, 79.1, ("H100",)),
    "a100-80": Gpu("A100 80 GB", 312, 2039, 79.2, ("A100-SXM4-80GB", "A100 80GB")),
    "a100-40": Gpu("A100 40 GB", 312, 1555, 39.4, ("A100-SXM4-40GB", "A100-PCIE-40GB")),
    "l40s": Gpu("L40S", 362, 864, 44.4, ("L40S",)),
    "rtx4090": Gpu("RTX 4090", 165, 1008, 23.5, ("4090",)),
    "rtx3090": Gpu("RTX 3090", 71, 936, 23.6, ("3090",)),
    "rtx4070": Gpu("RTX 4070 12 GB", 58, 504, 11.6, ("4070",)),
}


def gpu_of_device(device_name: str) -> Gpu | None:
    """The GPU that a CUDA device of this name is, or None if it is not in the table."""
    return next((g for g in GPUS.values() if any(m in device_name for m in g.marks)), None)


# ---- Bytes.

#: Bytes a weight in NF4 with double quantisation: 4 bits, an 8-bit scale for each 64 weights and
#: an fp32 scale for each 256 of those (Dettmers et al. 2023): 4.127 bits.
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
BF16_BYTES = 2
#: What of a GPU's memory never holds a tensor: kernels and libraries' workspaces.
OVERHEAD_BYTES = 1.5 * 2**30


def llm_bytes(llm: LlmShape, quantization: str) -> float:
    """Memory of the weights."""
    each = NF4_BYTES if quantization == "nf4" else BF16_BYTES
    return llm.layer_parameters * each + llm.embedding_parameters * BF16_BYTES


def kv_bytes(llm: LlmShape, length: int) -> float:
    """The cache of one sequence in bf16."""
    return 2.0 * BF16_BYTES * llm.kv_width * llm.layers * length


def decode_bytes(llm: LlmShape, quantization: str, batch: int, length: float) -> float:
    """Memory traffic of one decoding step of a batch: weights, head, and every row's cache.

    NF4 weights are read, unpacked to bf16 and read again at every step, except for a batch of one,
    which has a kernel of its own.
    """
    each = float(BF16_BYTES)
    if quantization == "nf4":
        each = NF4_BYTES + (2 * BF16_BYTES if batch > 1 else 0)
    weights = llm.layer_parameters * each + llm.vocab * llm.width * BF16_BYTES
    return weights + batch * kv_bytes(llm, 1) * length


def training_pass(llm: LlmShape, sequence: SequenceShape, lora: bool, features: float) -> ClipCost:
    """What the memory plan of a training would find by trying one clip of this length.

    A layer that is not recomputed keeps, in bf16: residuals and their norms' inputs, queries, keys,
    values, rotated ones, attention's output, gate and up; with adapters also the inputs of their
    linear maps.
    """
    width, length = llm.width, sequence.length
    a_token = 2 * width + 3 * llm.attention_width + 3 * llm.kv_width + 2 * llm.intermediate
    if lora:
        a_token += 2 * width + llm.intermediate
    layer, layer_input = float(BF16_BYTES) * a_token * length, float(BF16_BYTES) * width * length
    # A chunk of 1024 positions of fp32 logits at a time, and as much for their softmax.
    logits = 2 * 4.0 * llm.vocab * min(1024, sequence.caption)
    # One layer is recomputed at a time; its gradients exist beside its activations.
    recomputed = llm.layers * layer_input + 2 * layer + logits
    return ClipCost(
        recomputed=recomputed,
        first_kept=recomputed - layer,
        kept_layer=layer - layer_input,
        validated=2 * layer + logits,
        features=features,
        tokens=length,
    )


# ---- A study: its distinct pieces of work, and what each of them costs.

#: Tokens before and after the video where the tokenizer is not at hand (Qwen3, default prompt).
ASSUMED_PROMPT = (4, 24)
#: Tokens of the scorer's text tower that one chunk of a caption fills, of 64.
_TOKENS_A_CHUNK = 50
#: Seconds a captioning step takes however small the model: launches and Python.
_STEP_SECONDS = 0.005
#: Seconds a job takes before its model is loaded, and bytes read a second.
_IMPORTS_S, _READ_RATE = 10.0, 1.5e9
#: On a CPU: seconds around the work of a job, which forks from a process that has imported; and of
#: all that is no model's work: once, a clip and a caption. Timed with studies of 24 and 320 clips.
_FORK_S = 1.7
_REST_S, _CLIP_S, _CAPTION_S = 45.0, 0.1, 0.01


@dataclass(frozen=True)
class Cost:
    """Seconds a unit and GPU memory (GiB); ``problem`` says why there is none."""

    seconds: float | None
    gib: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Row:
    """A distinct piece of work: a line of the rehearsal's table.

    ``unit`` is what is counted in ``units``, ``about`` tells the piece from others of its part.
    ``estimated`` is None where the device is in no table, ``measured`` where nothing was timed.
    """

    part: str
    shape: str
    unit: str
    units: int
    about: StageShape | Connector | None = None
    estimated: Cost | None = None
    measured: Cost | None = None

    @property
    def cost(self) -> Cost:
        """What counts: the measured cost where there is one."""
        return self.measured or self.estimated or Cost(None)

    @property
    def hours(self) -> float | None:
        """Device hours of all units."""
        seconds = self.cost.seconds
        return None if seconds is None else seconds * self.units / 3600


@dataclass(frozen=True)
class Disk:
    """Bytes by purpose; ``resume`` is of the running stage, ``models`` are fetched once."""

    features: int
    checkpoints: int
    resume: int
    models: int

    @property
    def written(self) -> int:
        """What the output folder must have room for."""
        return self.features + self.checkpoints + self.resume


class Forecast:
    """A study before it runs: what it consists of, each part read when it is first asked for.

    Reading a part raises StudyError where a model's sizes, or the dataset, cannot be read.
    ``given`` is what to assume in place of what is on disk.
    """

    def __init__(self, config: Config, given: Assumptions | None = None) -> None:
        self.config = config
        self.given = given or Assumptions()
        self.study = Study(config)
        self._scans: dict[str, Scan] = {}
        #: whether clips are encoded, and captions judged, in this part of a study
        self.encodes = self.judges = True

    @cached_property
    def parts(self) -> list[Forecast]:
        """The study by what its runs see: encoder, language model and what both stages share.

        One for each point of axes of these. What parts share is counted in the first of them.
        """
        cells = [*self.study.tuning, *self.study.controls]
        cells += self.study.presets if self.given.presets else []
        kinds = list(dict.fromkeys(seen_by(cell.run) for cell in cells))
        if kinds == [seen_by(self.config)]:
            return [self]
        found: list[Forecast] = []
        for vision, llm, training in kinds:
            seen = {"vision": vision, "llm": llm, "training": training}
            part = Forecast(self.config.model_copy(update=seen), self.given)
            part.study, part._scans = self.study, self._scans
            part.encodes = all(vision != other.config.vision for other in found)
            part.judges = not found
            found.append(part)
        return found

    @property
    def told(self) -> str:
        """What this part has of its own on the grid's axes: ``r 8 · layer -2``; maybe nothing."""
        keys = (k for k in self.study.varied if k.startswith(("vision.", "llm.", "training.")))
        return " · ".join(told_value(key, attrgetter(key)(self.config)) for key in keys)

    @cached_property
    def tokenizer(self) -> Any:
        """The LLM's tokenizer if it is on this machine, else None."""
        llm = self.config.llm
        return load_tokenizer(llm, fetch=False) if has_tokenizer(llm.model, llm.revision) else None

    def scan(self, split: str) -> Scan:
        """What a split in ``data.splits`` lists; read once."""
        if split not in self._scans:
            folder = dict[str, str](self.config.data.splits.items())[split]
            self._scans[split] = scan_split(self.config.data, self.config.data_root, folder)
        return self._scans[split]

    @cached_property
    def models(self) -> ModelFacts:
        """Sizes of the models."""
        return model_facts(self.config)

    @cached_property
    def dataset(self) -> Dataset:
        """Clips and caption lengths."""
        return describe_dataset(self.config, self.tokenizer, self.given, self.scan)

    @cached_property
    def workload(self) -> Workload:
        """Units of work of every cell."""
        return Workload(
            self.study, self.dataset, self.given.presets, self.config, alone=self.judges
        )

    @cached_property
    def layout(self) -> PromptLayout:
        """Tokens around the video; as many as assumed where there is no tokenizer."""
        if self.tokenizer is not None:
            return prompt_layout(self.tokenizer, self.config.llm)
        before, after = ASSUMED_PROMPT
        last = self.models.llm.vocab - 1
        return PromptLayout((1,) * before, (1,) * after, (1,) * (before + after), last, last)

    @cached_property
    def projectors(self) -> dict[Connector, Projector]:
        """Each laid out without weights."""
        frames = self.config.vision.frames
        return {c: self.models.projector(c, frames) for c in self.workload.connectors}

    @cached_property
    def projector_flops(self) -> dict[Connector, float]:
        """FLOP of one clip by each, forward and backward."""
        return {c: sizes.projector_flops(made) for c, made in self.projectors.items()}

    def sequence(self, connector: Connector, caption: int | None = None) -> SequenceShape:
        """A clip's sequence with this connector and a caption of mean (or given) length."""
        around = len(self.layout.before) + len(self.layout.after)
        prompt = around + self.projectors[connector].tokens_per_video(self.config.vision.frames)
        return SequenceShape(prompt, caption or round(self.dataset.mean_tokens))

    def lora_parameters(self, stage: int = 2) -> int:
        """Weights of the adapters, which stage 1 has none of."""
        lora = self.config.llm.lora
        return self.models.llm.lora_parameters(lora.r, lora.targets) if stage == 2 else 0

    @property
    def caption_tokens(self) -> int:
        """Tokens of a caption: as long as the references, within the configured budget."""
        return min(round(self.dataset.mean_tokens), self.config.captions.max_new_tokens)

    @property
    def quick_tokens(self) -> int:
        """Tokens of a caption after an epoch, which ends where the references do."""
        return min(round(self.dataset.mean_tokens), self.config.training.quick_tokens)

    @property
    def texts_a_caption(self) -> int:
        """Texts that the scorer reads for a caption of mean length: its chunks, and it whole."""
        limit = max(1, self.models.scorer_texts.tokens * _TOKENS_A_CHUNK // 64)
        return 1 + -(-round(self.dataset.mean_tokens) // limit)

    @property
    def feature_bytes(self) -> int:
        """bf16 features of one clip."""
        models = self.models
        return BF16_BYTES * self.config.vision.frames * models.patches * models.vision_dim

    def rows(self, on_cpu: bool = False) -> list[Row]:
        """Every distinct piece of work and how often the study does it; its cost is left open.

        ``on_cpu``: models share the cores with all else, which then is a row.
        """
        config, models, work = self.config, self.models, self.workload
        frames, shown = config.vision.frames, config.scorer.frames
        told = f"{frames} frames × {models.vision.tokens} tokens"
        rows = [Row("features", told, "clip", work.encoded_clips)] if self.encodes else []
        told = f"{shown} frames × {models.scorer_images.tokens} tokens"
        if self.judges:
            rows.append(Row("scorer images", told, "clip", work.scored_clips))
        for shape, steps in work.steps.items():
            label = work.connectors[shape.connector]
            told = f"{label}, {shape.batch} clips × {shape.accumulation}"
            rows.append(Row(f"stage {shape.stage}", told, "step", steps, shape))
        # Connectors that give as many tokens, whose captions cost the same, share a row.
        first: dict[int, Connector] = {}
        for connector in work.connectors:
            first.setdefault(self.sequence(connector).prompt, connector)
        budget, quick = self.caption_tokens, self.quick_tokens
        for part, unit, told, units in (
            ("validation", "clip", f"{budget} caption tokens", work.validation),
            ("quick captions", "caption", f"{quick} new tokens", work.quick_captions),
            ("captions", "caption", f"{budget} new tokens", work.captions),
            ("conditions", "clip", f"{2 + config.captions.shuffles} losses", work.captions),
        ):
            sums: Counter[int] = Counter()
            for connector, n in units.items():
                sums[self.sequence(connector).prompt] += n
            for prompt, n in sums.items():
                rows.append(Row(part, f"{prompt} prompt, {told}", unit, n, first[prompt]))
        told = f"{self.texts_a_caption} texts × {models.scorer_texts.tokens} tokens"
        rows.append(Row("scorer texts", told, "caption", work.scored_captions))
        begin = _FORK_S if on_cpu else _IMPORTS_S
        loading = Cost(begin + llm_bytes(models.llm, "none") / _READ_RATE)
        told = "start, LLM (assumed)"
        rows.append(Row("loading", told, "job", work.jobs, estimated=loading))
        if on_cpu and self.judges:
            rest = _REST_S + _CLIP_S * work.encoded_clips + _CAPTION_S * work.scored_captions
            told = "clips, metrics, report (assumed)"
            rows.append(Row("all else", told, "study", 1, estimated=Cost(rest)))
        own = f"{self.told}: " if self.told else ""
        return [replace(row, shape=own + row.shape) for row in rows]

    def cost(self, row: Row, gpu: Gpu) -> Cost:
        """A unit of a row on this GPU."""
        config, models, about = self.config, self.models, row.about
        if isinstance(about, StageShape):
            return self._step(about, gpu)
        if isinstance(about, Connector):
            llm, sequence = models.llm, self.sequence(about)
            whole = sizes.forward_flops(llm, sequence.length, sequence.caption)
            if row.part == "validation":
                return Cost(gpu.seconds(whole))
            if row.part == "conditions":
                # The prompt is read twice, once reversed, and a caption in each condition.
                prompt = sizes.forward_flops(llm, sequence.prompt, 0)
                captions = 2 + config.captions.shuffles
                return Cost(gpu.seconds(2 * prompt + captions * (whole - prompt)))
            if row.part == "quick captions":
                clips = max(1, config.training.quick_clips)
                return self._caption(sequence.prompt, gpu, self.quick_tokens, clips)
            clips = self.dataset.clips["report"]
            clips = min(clips, config.captions.batch_size or clips)
            return self._caption(sequence.prompt, gpu, self.caption_tokens, clips)
        towers = {
            "features": (config.vision.frames, models.vision),
            "scorer images": (config.scorer.frames, models.scorer_images),
            "scorer texts": (self.texts_a_caption, models.scorer_texts),
        }
        inputs, tower = towers[row.part]
        return Cost(gpu.seconds(inputs * sizes.tower_flops(tower)))

    def _step(self, shape: StageShape, gpu: Gpu) -> Cost:
        """An optimizer step, and the memory of the leanest way to take it."""
        lora = self.lora_parameters(shape.stage)
        parameters = self.projectors[shape.connector].n_parameters()
        flops = self.projector_flops[shape.connector]
        flops += sizes.training_flops(self.models.llm, self.sequence(shape.connector), lora)
        # The optimizer reads and writes every trained weight, its gradient and moments.
        seconds = gpu.seconds(shape.batch * shape.accumulation * flops)
        seconds += gpu.seconds(0, 28.0 * (parameters + lora))
        least = (self.training_bytes(shape) + OVERHEAD_BYTES) / GIB
        problem = f"needs at least {least:.0f} GiB" if least > gpu.gib else None
        return Cost(seconds, least, problem)

    def training_pass(self, shape: StageShape) -> ClipCost:
        """A pass of the longest clip, as the plan of a training would find it."""
        longest = self.sequence(shape.connector, self.dataset.lengths[-1])
        return training_pass(self.models.llm, longest, shape.stage == 2, self.feature_bytes)

    def training_bytes(self, shape: StageShape) -> float:
        """Memory for tensors with which the plan of a training still finds a way: one clip a pass.

        What is trained, projector and (in stage 2) adapters, is held in fp32.
        """
        llm, config = self.models.llm, self.config
        trained = self.projectors[shape.connector].n_parameters() + self.lora_parameters(
            shape.stage
        )
        kept = kept_layers(config.runtime.checkpointing, llm.layers)
        a_pass = least_pass(self.training_pass(shape), kept)
        # In FP8 a weight is held twice, a byte each.
        packing = "none" if config.llm.matmul == "fp8" else config.llm.quantization
        held = llm_bytes(llm, packing) + 4.0 * trained
        return held + bytes_needed(a_pass, trained)

    def _caption(self, prompt: int, gpu: Gpu, new_tokens: int, batch: int) -> Cost:
        """One caption: its share of prefill and decoding in a batch as large as memory holds."""
        llm, quantization, room = self.models.llm, self.config.llm.quantization, gpu.gib * GIB
        # Captions are written with NF4 weights unpacked, where half of the memory stays free.
        unpacked, packed = (llm_bytes(llm, q) for q in ("none", "nf4"))
        if unpacked - packed <= (room - packed) / 2:
            quantization = "none"

        def needed(clips: int) -> float:
            """Weights, caches, and the prompt's widest activations."""
            widest = BF16_BYTES * (4 * llm.width + 3 * llm.intermediate) * prompt * clips
            cache = clips * kv_bytes(llm, prompt + new_tokens)
            return llm_bytes(llm, quantization) + cache + widest + OVERHEAD_BYTES

        one = needed(1)
        if one > room:
            return Cost(None, one / GIB, f"needs at least {one / GIB:.0f} GiB")
        batch = max(1, min(batch, 1 + int((room - one) / (needed(2) - one))))
        prefill = gpu.seconds(batch * sizes.forward_flops(llm, prompt, 1))
        traffic = decode_bytes(llm, quantization, batch, prompt + new_tokens / 2)
        step = max(_STEP_SECONDS, gpu.seconds(batch * sizes.forward_flops(llm, 1, 1), traffic))
        return Cost((prefill + new_tokens * step) / batch, needed(batch) / GIB)

    def disk(self) -> Disk:
        """Bytes for every cell that the study trains."""
        parts = [part._disk() for part in self.parts]
        models = Counter[str]()
        for part in self.parts:
            models |= part._model_bytes()  # the larger of two
        return Disk(
            features=sum(part.features for part in parts),
            checkpoints=sum(part.checkpoints for part in parts),
            resume=max(part.resume for part in parts),
            models=sum(models.values()),
        )

    def _model_bytes(self) -> Counter[str]:
        """Bytes of each model that is to be fetched, which a local folder is not.

        Hubs keep towers in fp32, LLMs in bf16.
        """
        models, config = self.models, self.config
        judge = models.scorer_images.stored + models.scorer_texts.stored
        llm = models.llm.layer_parameters + models.llm.embedding_parameters
        sizes_of = {
            config.vision.model: 4 * models.vision.stored,
            config.scorer.model: 4 * judge,
            config.llm.model: 2 * llm,
        }
        return Counter({name: n for name, n in sizes_of.items() if not is_folder(name)})

    def _disk(self) -> Disk:
        """Of this part, but for models."""
        work, lora = self.workload, self.lora_parameters()
        trained = {c: made.n_parameters() for c, made in self.projectors.items()}
        saved = [trained[connector_of(cell.run)] for cell in work.stage1_cells]
        saved += [trained[connector_of(cell.run)] + lora for cell in work.cells]
        return Disk(
            features=work.encoded_clips * self.feature_bytes if self.encodes else 0,
            checkpoints=4 * sum(saved),  # fp32
            # Weights, two moments and the best weights so far in fp32, twice: a stage's own, and
            # that of the stage before it, given up once it has begun.
            resume=2 * 16 * (max(trained.values()) + lora),
            models=0,
        )
