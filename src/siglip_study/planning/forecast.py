"""What each part of a study costs on a named GPU, by formula."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from siglip_study.models import sizes as arithmetic
from siglip_study.models.sizes import Sequence
from siglip_study.planning import estimate
from siglip_study.planning.dataset import Dataset
from siglip_study.planning.facts import ModelFacts
from siglip_study.planning.rows import GIB, Cost
from siglip_study.planning.workload import Connector, StageShape, Workload, connector_of

# ---- GPUs by name: what their makers state, and what of it a study is assumed to reach.

#: Share of the stated matrix rate that training and encoding are assumed to reach.
COMPUTE_EFFICIENCY = 0.6
#: Share of the stated bandwidth that decoding is assumed to reach.
BANDWIDTH_EFFICIENCY = 0.6


@dataclass(frozen=True)
class Gpu:
    """A GPU: dense bf16 rate (TFLOP/s), bandwidth (GB/s) and memory (GiB) as PyTorch sees it.

    Rates are those of the data sheets, without sparsity and with fp32 accumulation.
    """

    name: str
    tflops: float
    gb_per_s: float
    gib: float

    def seconds(self, flops: float, traffic: float = 0.0) -> float:
        """Time of work bound by arithmetic (FLOP) or by memory traffic (bytes), the longer one."""
        compute = flops / (self.tflops * 1e12 * COMPUTE_EFFICIENCY)
        memory = traffic / (self.gb_per_s * 1e9 * BANDWIDTH_EFFICIENCY)
        return max(compute, memory)


GPUS: dict[str, Gpu] = {
    "h200": Gpu("H200", 989, 4800, 139.8),
    "h100": Gpu("H100 SXM 80 GB", 989, 3350, 79.1),
    "a100-80": Gpu("A100 80 GB", 312, 2039, 79.2),
    "a100-40": Gpu("A100 40 GB", 312, 1555, 39.4),
    "l40s": Gpu("L40S", 362, 864, 44.4),
    "rtx4090": Gpu("RTX 4090", 165, 1008, 23.5),
    "rtx3090": Gpu("RTX 3090", 71, 936, 23.6),
    "rtx4070": Gpu("RTX 4070 12 GB", 58, 504, 11.6),
}
# A part of the name that PyTorch gives a device → its key above; the first that is found counts.
_MARKS = {
    "H200": "h200",
    "H100": "h100",
    "A100-SXM4-80GB": "a100-80",
    "A100 80GB": "a100-80",
    "A100-SXM4-40GB": "a100-40",
    "A100-PCIE-40GB": "a100-40",
    "L40S": "l40s",
    "4090": "rtx4090",
    "3090": "rtx3090",
    "4070": "rtx4070",
}


def named_gpu(key: str) -> Gpu:
    """The GPU under this key.

    Raises:
        StudyError: there is none.
    """
    if key not in GPUS:
        raise StudyError(f"GPU '{key}' is unknown; expected one of {', '.join(GPUS)}.")
    return GPUS[key]


def gpu_of_device(device_name: str) -> Gpu | None:
    """The GPU that a CUDA device of this name is, or None if it is not in the table."""
    return next((GPUS[key] for mark, key in _MARKS.items() if mark in device_name), None)


#: Tokens of the scorer's text tower that one chunk of a caption fills, of 64.
_TOKENS_A_CHUNK = 50
#: Seconds a captioning step takes however small the model: launches and Python.
_STEP_SECONDS = 0.005


@dataclass(frozen=True)
class ProjectorFacts:
    """A projector's weights, its tokens a video, and FLOP of one clip forward and backward."""

    parameters: int
    tokens: int
    flops: float


class Forecast:
    """Costs by formula.

    Args:
        config: the study.
        facts: sizes of its models.
        dataset: clips and caption lengths.
        prompt_tokens: tokens around the video.
    """

    def __init__(
        self, config: Config, facts: ModelFacts, dataset: Dataset, prompt_tokens: int
    ) -> None:
        self.config = config
        self.facts = facts
        self.dataset = dataset
        self.prompt_tokens = prompt_tokens
        self._projectors: dict[Connector, ProjectorFacts] = {}

    def projector(self, connector: Connector) -> ProjectorFacts:
        """Counted once, on a projector that holds no memory."""
        if connector not in self._projectors:
            frames = self.config.vision.frames
            made = self.facts.projector(connector, frames)
            self._projectors[connector] = ProjectorFacts(
                made.n_parameters(),
                made.tokens_per_video(frames),
                arithmetic.projector_flops(made),
            )
        return self._projectors[connector]

    def sequence(self, connector: Connector, caption: int | None = None) -> Sequence:
        """A clip's sequence with this connector and a caption of mean (or given) length."""
        prompt = self.prompt_tokens + self.projector(connector).tokens
        return Sequence(prompt, caption or round(self.dataset.mean_tokens))

    @property
    def lora_parameters(self) -> int:
        """Weights of the adapters."""
        lora = self.config.llm.lora
        return self.facts.llm.lora_parameters(lora.r, lora.targets)

    def step(self, shape: StageShape, gpu: Gpu) -> Cost:
        """An optimizer step, and the memory of the leanest way to take it."""
        llm, lora = self.facts.llm, self.lora_parameters if shape.stage == 2 else 0
        clips = shape.batch * shape.accumulation
        sequence = self.sequence(shape.connector)
        projector = self.projector(shape.connector)
        flops = clips * (arithmetic.training_flops(llm, sequence, lora) + projector.flops)
        trained = projector.parameters + lora
        # The optimizer reads and writes every trained weight, its gradient and moments.
        seconds = gpu.seconds(flops) + gpu.seconds(0, 28.0 * trained)
        least = self.training_bytes(shape) + estimate.OVERHEAD_BYTES
        if least > gpu.gib * GIB:
            return Cost(seconds, least / GIB, f"needs at least {least / GIB:.0f} GiB")
        return Cost(seconds, least / GIB)

    def training_bytes(self, shape: StageShape) -> float:
        """Memory for tensors of the leanest way to train, as the memory plan will reckon."""
        lora, config = self.lora_parameters if shape.stage == 2 else 0, self.config
        return estimate.least_training_bytes(
            self.facts.llm,
            config.llm.quantization,
            self.sequence(shape.connector, self.dataset.lengths[-1]),
            self.projector(shape.connector).parameters + lora,
            lora > 0,
            estimate.feature_bytes(config.vision.frames, self.facts.patches, self.facts.vision_dim),
            config.runtime.checkpointing,
        )

    def validation(self, connector: Connector, gpu: Gpu) -> Cost:
        """One clip's forward pass with its caption."""
        sequence = self.sequence(connector)
        flops = arithmetic.forward_flops(self.facts.llm, sequence.length, sequence.caption)
        return Cost(gpu.seconds(flops))

    def conditions(self, connector: Connector, gpu: Gpu) -> Cost:
        """One clip's losses: its prompt read twice, once reversed, and a caption each condition."""
        llm, sequence = self.facts.llm, self.sequence(connector)
        prompt = arithmetic.forward_flops(llm, sequence.prompt, 0)
        whole = arithmetic.forward_flops(llm, sequence.length, sequence.caption)
        captions = 2 + self.config.captions.shuffles
        return Cost(gpu.seconds(2 * prompt + captions * (whole - prompt)))

    def caption(self, connector: Connector, gpu: Gpu, new_tokens: int, batch: int) -> Cost:
        """One caption: its share of prefill and decoding in a batch as large as memory holds."""
        llm, quantization = self.facts.llm, self.config.llm.quantization
        prompt = self.sequence(connector).prompt
        # Captions are written with NF4 weights unpacked, where half of the memory stays free.
        unpacked, packed = (estimate.llm_bytes(llm, q) for q in ("none", "nf4"))
        if unpacked - packed <= (gpu.gib * GIB - packed) / 2:
            quantization = "none"

        def needed(clips: int) -> float:
            return estimate.caption_bytes(llm, quantization, clips, prompt, new_tokens)

        one = needed(1)
        if one > gpu.gib * GIB:
            return Cost(None, one / GIB, f"needs at least {one / GIB:.0f} GiB")
        fitting = 1 + int((gpu.gib * GIB - one) / (needed(2) - one))
        batch = max(1, min(batch, fitting))
        prefill = gpu.seconds(batch * arithmetic.forward_flops(llm, prompt, 1))
        traffic = estimate.decode_bytes(llm, quantization, batch, prompt + new_tokens / 2)
        flops = batch * arithmetic.forward_flops(llm, 1, 1)
        step = max(_STEP_SECONDS, gpu.seconds(flops, traffic))
        return Cost((prefill + new_tokens * step) / batch, needed(batch) / GIB)

    def features(self, gpu: Gpu) -> Cost:
        """One clip through the vision encoder."""
        flops = self.config.vision.frames * arithmetic.tower_flops(self.facts.vision)
        return Cost(gpu.seconds(flops))

    def scorer_images(self, gpu: Gpu) -> Cost:
        """One clip's frames through the scorer."""
        flops = self.config.scorer.frames * arithmetic.tower_flops(self.facts.scorer_images)
        return Cost(gpu.seconds(flops))

    def scorer_texts(self, gpu: Gpu) -> Cost:
        """One caption through the scorer: its chunks, and once as published."""
        return Cost(
            gpu.seconds(self.texts_a_caption * arithmetic.tower_flops(self.facts.scorer_texts))
        )

    @property
    def texts_a_caption(self) -> int:
        """Texts that the scorer reads for a caption of mean length."""
        limit = max(1, self.facts.scorer_texts.tokens * _TOKENS_A_CHUNK // 64)
        return 1 + -(-round(self.dataset.mean_tokens) // limit)


# ---- Bytes that a study writes, and those of the models it reads.


@dataclass(frozen=True)
class Disk:
    """Bytes by purpose."""

    features: int
    checkpoints: int
    #: of the largest stage that is running; freed when the next one has begun
    resume: int
    #: of the models' weights, fetched once
    models: int

    @property
    def written(self) -> int:
        """What the output folder must have room for."""
        return self.features + self.checkpoints + self.resume


def disk_needed(workload: Workload, forecast: Forecast) -> Disk:
    """Bytes for every cell that the study trains."""
    config, facts = workload.config, forecast.facts
    a_clip = estimate.feature_bytes(config.vision.frames, facts.patches, facts.vision_dim)
    lora = forecast.lora_parameters
    sizes = {
        connector: forecast.projector(connector).parameters for connector in workload.connectors
    }
    checkpoints = sum(
        estimate.checkpoint_bytes(sizes[connector_of(cell.run)], 0)
        for cell in workload.stage1_cells
    )
    checkpoints += sum(
        estimate.checkpoint_bytes(sizes[connector_of(cell.run)], lora) for cell in workload.cells
    )
    scorer = facts.scorer_images.stored + facts.scorer_texts.stored
    weights = facts.llm.layer_parameters + facts.llm.embedding_parameters
    return Disk(
        features=workload.encoded_clips * a_clip,
        checkpoints=checkpoints,
        # Two: a stage's own, and that of the stage before it, given up once it has begun.
        resume=2 * estimate.resume_bytes(max(sizes.values()), lora),
        # Hubs keep towers in fp32, LLMs in bf16.
        models=4 * (facts.vision.stored + scorer) + 2 * weights,
    )
