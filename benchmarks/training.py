"""Training steps of both stages: the published step against the project's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import inputs
from benchmarks.inputs import Case, Size
from benchmarks.published.train import PublishedTrainer, prepare_llm
from benchmarks.sides import Found
from benchmarks.tables import Result, Table
from benchmarks.timing import free, matmul_rate, measure
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import StageConfig
from siglip_study.models.fp8 import why_no_fp8
from siglip_study.models.llm import add_lora
from siglip_study.models.sizes import SequenceShape, training_flops
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import forward_passes
from siglip_study.training.memory import MemoryPlan, plan_memory
from siglip_study.training.step import make_optimizer, optimizer_step

Figures = dict[str, Any]
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


def run_ours(size: Size, device: torch.device, matmul: str = "bf16") -> Figures:
    """The project's side: every stage and case, and the rate that it is held against."""
    found: Figures = {"matmul_rate": matmul_rate(device, size.matmul), "cases": {}}
    free(device)
    for stage in STAGES:
        compiled = 0.0
        small = size.small_memory_gb.get(stage) if matmul == "bf16" else None
        # A model for each: with room to spare, planning unpacks its weights for good.
        for memory in (small, None) if small and device.type == "cuda" else (None,):
            llm: Any = inputs.llm(size, device, matmul)
            if stage == 2:
                llm = add_lora(llm, size.lora)
            for case in size.cases if memory is None else size.cases[:1]:
                model = inputs.vlm(size, case.projector, llm)
                flops = projector_flops(model, size)
                lengths_of_captions = list(size.training_lengths)
                for lengths in lengths_of_captions if memory is None else lengths_of_captions[:1]:
                    figures = _project_mode(model, size, stage, case, lengths, memory, flops)
                    # Compiled graphs are shared here, but not by the jobs of a study.
                    figures["startup"] = compiled = max(compiled, figures["startup"])
                    found["cases"][_key(stage, case, lengths, memory)] = figures
                    _say(f"{matmul}, stage {stage}, {case.name}, {lengths}, {memory}", figures)
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
) -> Figures:
    low, high = size.training_lengths[lengths]
    model.projector.load_state_dict(inputs.projector(size, case.projector).state_dict())
    inputs.set_lora(model.llm, 0.0)
    device = model.feature_scale.device
    free(device)
    began = time.perf_counter()
    accelerator = make_accelerator(device)
    plan = prepare(model, case.batch, high, size, memory, accelerator)
    trainer = ProjectTrainer(model, plan, accelerator)
    warmup = 2
    work = _batches(size, case, low, high, warmup + size.repeats, device)
    # The published sequence, so that both sides' losses can be compared.
    model.layout = inputs.published_layout(size)
    first = trainer.validate(*work[0]).sum() / sum(map(len, work[0][1]))
    model.layout = inputs.layout(size)
    trainer.step(*work[0]).sum().item()
    startup = time.perf_counter() - began
    timing = measure(lambda i: trainer.step(*work[i]), device, warmup=warmup, repeats=size.repeats)
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
    validation = measure(lambda i: trainer.validate(*work[i]), device, warmup=1, repeats=2)
    return {
        "step": timing.seconds,
        "peak_gib": timing.peak_gib,
        "first_loss": float(first),
        "tflops": sum(flops) / sum(timing.runs) / 1e12,
        "startup": max(0.0, startup - timing.seconds),  # compilation and planning, once a job
        "validation": validation.seconds / case.batch,
        "forward_clips": plan.forward_clips,
        "recomputed": plan.recomputed,
    }


def run_published(size: Size, device: torch.device) -> Figures:
    """The published side; its time does not depend on the captions' lengths."""
    found: Figures = {"cases": {}}
    llm = prepare_llm(inputs.llm(size, device), size.lora)
    low, high = next(iter(size.training_lengths.values()))
    for stage in STAGES:
        for case in size.cases:
            inputs.set_lora(llm, 0.0)
            trainer = PublishedTrainer(
                inputs.projector(size, case.projector),
                llm,
                inputs.published_layout(size),
                stage,
                size.text_limit,
                device,
            )
            # One with the optimizer's step, and one without.
            repeats = 2
            work = [
                (ready_for_copy(features.float().cpu()), captions)
                for features, captions in _batches(size, case, low, high, 1 + repeats, device)
            ]
            losses: list[float] = []
            timing = measure(
                lambda i, t=trainer, w=work, seen=losses: seen.append(t.step(*w[i])),  # type: ignore[misc]
                device,
                warmup=1,
                repeats=repeats,
            )
            figures = {
                "step": timing.seconds,
                "peak_gib": timing.peak_gib,
                "first_loss": losses[0],
            }
            found["cases"][_key(stage, case)] = figures
            _say(f"published, stage {stage}, {case.name}", figures)
            del trainer
    return found


def run_fp8(size: Size, device: torch.device) -> Figures:
    """The first case with products in FP8; nothing where a GPU has none."""
    if device.type == "cuda" and why_no_fp8(device):
        return {"cases": {}}
    lengths = dict(list(size.training_lengths.items())[:1])
    return run_ours(replace(size, cases=size.cases[:1], training_lengths=lengths), device, "fp8")


#: Each side runs in a process of its own.
SIDES = {"published": run_published, "ours": run_ours, "fp8": run_fp8}


def table(size: Size, device: torch.device, found: Found) -> Result:
    """Both sides beside each other."""
    result = Result()
    columns = ["step", "published s", "ours s", "ratio", "ratios seen", "published GiB"]
    columns += ["ours GiB", "ours TFLOP/s", "share of matmul rate", "clips a pass"]
    columns += ["layers recomputed"]
    steps = Table("Training step", columns)
    startups = Table("Start-up of a training job: planning and compilation", ["job", "s", "again"])
    rate = found.middle("ours", "matmul_rate")
    first_lengths = next(iter(size.training_lengths))
    for side in ("ours", "fp8"):
        cases = found.first(side)["cases"]
        for stage, case, lengths, memory in _modes(size):
            key = _key(stage, case, lengths, memory)
            if key not in cases:
                continue
            published, ours = ["cases", _key(stage, case), "step"], ["cases", key, "step"]
            ratio, mine = found.ratio(published, ours, side), cases[key]
            at_most = "" if memory is None else f", at most {memory:.0f} GiB"
            fp8 = ", FP8" if side == "fp8" else ""
            tflops = found.middle(side, "cases", key, "tflops")
            steps.rows.append(
                [
                    f"stage {stage}, {case.name}, captions {lengths}{at_most}{fp8}",
                    found.middle("published", *published),
                    found.middle(side, *ours),
                    ratio.middle,
                    ratio.spread,
                    found.first("published")["cases"][_key(stage, case)]["peak_gib"],
                    mine["peak_gib"],
                    tflops,
                    tflops / rate,
                    float(mine["forward_clips"]),
                    float(mine["recomputed"]),
                ]
            )
            if memory is not None:
                continue
            part = f"training/{case.projector}/{stage}/{lengths}"
            for figure in ("step", "validation", "startup"):
                seconds = found.middle(side, "cases", key, figure)
                result.parts[f"{part}/{side}/{figure}"] = seconds
            result.parts[f"{part}/published/step"] = found.middle("published", *published)
            if lengths == first_lengths:
                own = found.each(side, "cases", key, "first_loss")
                theirs = found.each("published", "cases", _key(stage, case), "first_loss")
                if own and theirs:
                    apart = abs(own[0] / theirs[0] - 1)
                    result.agreement[f"loss of stage {stage}, {case.name}{fp8}"] = apart
                starts = found.each(side, "cases", key, "startup")
                again = starts[1] if len(starts) > 1 else None
                startups.rows.append([f"stage {stage}, {case.name}{fp8}", starts[0], again])
    steps.notes = [
        f"Matmul rate: {rate:.3g} TFLOP/s, {size.matmul}³ on random data"
        f" ({'bf16' if device.type == 'cuda' else 'fp32'}).",
        f"Each side in processes of its own: {found.counted()}. Median of {size.repeats} steps "
        "(ours) over batches of differing lengths, 2 (published, after one warm-up); of the "
        "processes the median again. Ratios seen: the lowest and highest of any two processes. "
        f"The published step pads question and caption to {size.text_limit} tokens, so that its "
        "time does not depend on them; it was timed once for both rows.",
        "TFLOP/s counts useful work alone: no padding, no recomputation, causal attention.",
    ]
    startups.notes = ["Again: another process on the same machine finds the graphs compiled."]
    result.tables += [steps, startups]
    return result


def _modes(size: Size) -> Iterator[tuple[int, Case, str, float | None]]:
    first = next(iter(size.training_lengths))
    for stage in STAGES:
        if (small := size.small_memory_gb.get(stage)) is not None:
            yield stage, size.cases[0], first, small
        for case in size.cases:
            for lengths in size.training_lengths:
                yield stage, case, lengths, None


def _key(stage: int, case: Case, lengths: str = "", memory: float | None = None) -> str:
    return f"{stage}/{case.projector}/{lengths}/{memory or ''}"


def ready_for_copy(tensor: Tensor) -> Tensor:
    """In pinned memory where there is a GPU, as the published data loader leaves it."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor


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


def _say(what: str, figures: Figures) -> None:
    peak = figures["peak_gib"]
    shown = "" if peak is None else f", {peak:.1f} GiB"
    print(f"    {what}: {figures['step']:.4g} s a step{shown}", flush=True)
