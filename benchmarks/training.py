"""Training steps of both stages: the published step against the project's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import inputs
from benchmarks.inputs import Case, Size
from benchmarks.published.train import PublishedTrainer, prepare_llm
from benchmarks.tables import Result, Table
from benchmarks.timing import Timing, free, matmul_rate, measure
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import StageConfig
from siglip_study.models.llm import add_lora
from siglip_study.models.sizes import SequenceShape, training_flops
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import forward_passes
from siglip_study.training.memory import MemoryPlan, plan_memory
from siglip_study.training.step import make_optimizer, optimizer_step

Batch = tuple[Tensor, list[tuple[int, ...]]]
STAGES = (1, 2)


def prepare(
    model: VisionLanguageModel,
    batch: int,
    longest: int,
    size: Size,
    memory_gb: float | None,
    accelerator: Accelerator,
) -> MemoryPlan:
    """The project's own choice of forward batch and recomputed layers, as a training job makes it.

    The longest caption of any batch is what the plan must hold, not that of the first.
    """
    device = model.feature_scale.device
    return plan_memory(
        model,
        inputs.features(size, 1).to(device),
        inputs.captions(size, [longest])[0],
        batch,
        batch,
        RuntimeConfig(memory_gb=memory_gb),
        accelerator.autocast,
    )


def make_accelerator(device: torch.device) -> Accelerator:
    """As a job of one process has it: bf16 autocast on a GPU, fp32 on the CPU."""
    on_cpu = device.type == "cpu"
    return Accelerator(cpu=on_cpu, mixed_precision="no" if on_cpu else "bf16")


class ProjectTrainer:
    """The project's optimizer step, its clips split into forward passes as memory asks."""

    def __init__(
        self, model: VisionLanguageModel, plan: MemoryPlan, accelerator: Accelerator
    ) -> None:
        self.model, self.plan, self.accelerator = model, plan, accelerator
        self.device = model.feature_scale.device
        self.trainable = model.trainable()
        self.optimizer = make_optimizer(model, StageConfig(learning_rate=1e-4))

    def step(
        self, features: Tensor, captions: Sequence[Sequence[int]], of_all: int | None = None
    ) -> Tensor:
        """One optimizer step; its loss stays on the device.

        ``of_all``: target tokens of the step over all ranks, where there are several.
        """
        self.model.train()
        lengths = [len(caption) for caption in captions]
        passes = forward_passes(lengths, self.plan.forward_clips)
        loss, _ = optimizer_step(
            self.model,
            ((features[rows], [captions[i] for i in rows]) for rows in passes),
            of_all or sum(lengths),
            self.optimizer,
            list(self.trainable.values()),
            self.accelerator,
            max_grad_norm=1.0,
        )
        return loss

    @torch.no_grad()
    def validate(self, features: Tensor, captions: Sequence[Sequence[int]]) -> Tensor:
        """Losses of a batch without gradients."""
        self.model.eval()
        with self.accelerator.autocast():
            losses, _ = self.model.caption_loss(features.to(self.device), captions)
        return losses


@dataclass
class Measured:
    """One side, one stage, one case."""

    timing: Timing
    first_loss: float
    flops: float  # a step, mean over the timed ones
    startup_s: float = 0.0  # compilation and planning, once a job
    validation_s: float = 0.0  # a clip
    plan: MemoryPlan | None = None

    @property
    def rate(self) -> float:
        """Useful TFLOP/s, over all timed steps."""
        return self.flops * len(self.timing.runs) / sum(self.timing.runs) / 1e12


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights and batches."""
    peak_rate = matmul_rate(device, size.matmul)
    ours = _project(size, device)
    free(device)
    theirs = _published(size, device)
    free(device)

    result = Result()
    columns = ["step", "published s", "ours s", "ratio", "published GiB", "ours GiB"]
    columns += ["ours TFLOP/s", "share of matmul rate", "clips a pass", "layers recomputed"]
    table = Table("Training step", columns)
    for (stage, case, lengths, memory), mine in ours.items():
        published = theirs[stage, case]
        at_most = "" if memory is None else f", at most {memory:.0f} GiB"
        assert mine.plan is not None
        table.rows.append(
            [
                f"stage {stage}, {case.name}, captions {lengths}{at_most}",
                published.timing.seconds,
                mine.timing.seconds,
                published.timing.seconds / mine.timing.seconds,
                published.timing.peak_gib,
                mine.timing.peak_gib,
                mine.rate,
                mine.rate / peak_rate,
                float(mine.plan.forward_clips),
                float(mine.plan.recomputed),
            ]
        )
        if memory is None:
            key = f"training/{case.projector}/{stage}/{lengths}"
            result.parts |= {
                f"{key}/ours/step": mine.timing.seconds,
                f"{key}/ours/validation": mine.validation_s,
                f"{key}/ours/startup": mine.startup_s,
                f"{key}/published/step": published.timing.seconds,
            }
            if lengths == next(iter(size.training_lengths)):
                apart = abs(mine.first_loss / published.first_loss - 1)
                result.agreement[f"loss of stage {stage}, {case.name}"] = apart
    table.notes = [
        f"Matmul rate: {peak_rate:.3g} TFLOP/s, {size.matmul}³ on random data"
        f" ({'bf16' if device.type == 'cuda' else 'fp32'}).",
        f"Median of {size.repeats} steps (ours) over batches of differing lengths, "
        f"{_published_repeats(size)} (published, after one warm-up). The published step pads "
        f"each caption to {size.caption_limit} tokens, so that its time does not depend on them; "
        "it was timed once for both rows.",
        "TFLOP/s counts useful work alone: no padding, no recomputation, causal attention.",
    ]
    result.tables.append(table)
    startups = Table("Start-up of a training job: planning and compilation", ["job", "s"])
    startups.rows = [
        [f"stage {stage}, {case.name}", mine.startup_s]
        for (stage, case, lengths, memory), mine in ours.items()
        if memory is None and lengths == next(iter(size.training_lengths))
    ]
    result.tables.append(startups)
    return result


def _project(
    size: Size, device: torch.device
) -> dict[tuple[int, Case, str, float | None], Measured]:
    found = {}
    for stage in STAGES:
        compiled = 0.0
        small = size.small_memory_gb.get(stage)
        # A model for each: with room to spare, planning unpacks its weights for good.
        for memory in (small, None) if small and device.type == "cuda" else (None,):
            llm: Any = inputs.llm(size, device)
            if stage == 2:
                llm = add_lora(llm, size.lora)
            for case in size.cases if memory is None else size.cases[:1]:
                model = inputs.vlm(size, case.projector, llm)
                flops = projector_flops(model, size)
                lengths_of_captions = list(size.training_lengths)
                for lengths in lengths_of_captions if memory is None else lengths_of_captions[:1]:
                    measured = _project_mode(model, size, stage, case, lengths, memory, flops)
                    # Compiled graphs are shared here, but not by the jobs of a study.
                    compiled = max(compiled, measured.startup_s)
                    measured.startup_s = compiled
                    found[stage, case, lengths, memory] = measured
                    _say(f"ours, stage {stage}, {case.name}, {lengths}, {memory}", measured)
            del llm, model
            free(device)
    return found


def _project_mode(
    model: VisionLanguageModel,
    size: Size,
    stage: int,
    case: Case,
    lengths: str,
    memory: float | None,
    projector: int,
) -> Measured:
    low, high = size.training_lengths[lengths]
    model.projector.load_state_dict(inputs.projector(size, case.projector).state_dict())
    inputs.set_lora(model.llm, 0.0)
    free(model.feature_scale.device)
    began = time.perf_counter()
    accelerator = make_accelerator(model.feature_scale.device)
    plan = prepare(model, case.batch, high, size, memory, accelerator)
    trainer = ProjectTrainer(model, plan, accelerator)
    warmup = 2
    work = _batches(size, case, low, high, warmup + size.repeats, trainer.device)
    losses = [float(trainer.step(*work[0]))]
    startup = time.perf_counter() - began
    timing = measure(
        lambda i: trainer.step(*work[i]), trainer.device, warmup=warmup, repeats=size.repeats
    )
    prompt = model.prompt_length(work[0][0])
    lora = size.shape.lora_parameters(size.lora.r, size.lora.targets) if stage == 2 else 0
    # Useful ones: padding, and layers that run again, count for nothing.
    flops = [
        sum(
            projector + training_flops(size.shape, SequenceShape(prompt, len(caption)), lora)
            for caption in captions
        )
        for _, captions in work[warmup:]
    ]
    validation = measure(lambda i: trainer.validate(*work[i]), trainer.device, warmup=1, repeats=2)
    return Measured(
        timing,
        losses[0],
        sum(flops) / len(flops),
        max(0.0, startup - timing.seconds),
        validation.seconds / case.batch,
        plan,
    )


def _published(size: Size, device: torch.device) -> dict[tuple[int, Case], Measured]:
    found = {}
    llm = prepare_llm(inputs.llm(size, device), size.lora)
    low, high = next(iter(size.training_lengths.values()))
    for stage in STAGES:
        for case in size.cases:
            inputs.set_lora(llm, 0.0)
            trainer = PublishedTrainer(
                inputs.projector(size, case.projector),
                llm,
                inputs.layout(size),
                stage,
                size.caption_limit,
                device,
            )
            repeats = _published_repeats(size)
            work = _batches(size, case, low, high, 1 + repeats, device)
            losses: list[float] = []
            timing = measure(
                lambda i, t=trainer, w=work, seen=losses: seen.append(t.step(*w[i])),  # type: ignore[misc]
                device,
                warmup=1,
                repeats=repeats,
            )
            found[stage, case] = Measured(timing, losses[0], 0.0)
            _say(f"published, stage {stage}, {case.name}", found[stage, case])
            del trainer
    return found


def _published_repeats(size: Size) -> int:
    # Its steps are slow and always alike.
    return 2 if size is inputs.FULL else size.repeats


def _batches(
    size: Size, case: Case, low: int, high: int, n: int, device: torch.device
) -> list[Batch]:
    # On the device, where the trainer's prefetching has them before a step begins.
    features = inputs.features(size, case.batch).to(device)
    lengths = inputs.caption_lengths(low, high, n * case.batch)
    return [
        (features, inputs.captions(size, lengths[i * case.batch : (i + 1) * case.batch], seed=i))
        for i in range(n)
    ]


def projector_flops(model: VisionLanguageModel, size: Size) -> int:
    """FLOPs of the projector for one clip, forward and backward, counted as it runs."""
    features = inputs.features(size, 1).to(model.feature_scale.device)
    with FlopCounterMode(display=False) as counter, make_accelerator(features.device).autocast():
        model.video_embeddings(features).sum().backward()
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def _say(what: str, measured: Measured) -> None:
    peak = measured.timing.peak_gib
    shown = "" if peak is None else f", {peak:.1f} GiB"
    print(f"  {what}: {measured.timing.seconds:.4g} s a step{shown}", flush=True)
