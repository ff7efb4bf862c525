"""Forward batches and recomputed layers that fit the GPU, found by trying one clip.

The same optimizer step can be cut into smaller forward passes and its layers recomputed in the
backward pass: results differ in rounding only, memory and time differ a lot. Two trial passes of
the longest clip say what a clip costs, and what a layer that keeps its activations adds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from siglip_study.config import RuntimeConfig
from siglip_study.errors import StudyError
from siglip_study.llm_layers import decoder_layers, set_layers
from siglip_study.lora_layers import use_lean_adapters
from siglip_study.quantization import dequantize, dequantized_growth
from siglip_study.vlm import VisionLanguageModel

log = logging.getLogger(__name__)

GIB = 2**30
# Left free for fragmentation and for kernels' workspaces.
_MARGIN = 0.06
# A forward and backward pass reads, and under NF4 unpacks, every weight once more: as long as
# this many tokens take (measured on an H200: 20 ms, and 47 µs a token of an 8 B model).
_PASS_IN_TOKENS = 400
# A recomputed layer runs forward twice: three units of work in place of two.
_RECOMPUTE = 0.5


@dataclass(frozen=True)
class ClipCost:
    """What one clip of the longest sequence needs in a forward and backward pass, in bytes."""

    recomputed: float  # with all layers recomputed
    kept_layer: float  # more, for each layer that keeps its activations
    validated: float  # in a forward pass alone
    tokens: int


@dataclass(frozen=True)
class MemoryPlan:
    """Clips a forward pass, recomputed layers, and clips a validation batch."""

    forward_clips: int
    recomputed: int
    eval_clips: int


def fit(cost: ClipCost, free: float, batch: int, eval_batch: int, layers: int) -> MemoryPlan:
    """The fastest plan within ``free`` bytes.

    Larger forward passes read the weights less often; layers that keep their activations are not
    run twice. Every size of forward pass is tried with as many kept layers as fit.

    Raises:
        StudyError: not even one clip fits with every layer recomputed.
    """
    best: tuple[float, MemoryPlan] | None = None
    eval_clips = max(1, min(eval_batch, int(free // max(cost.validated, 1))))
    for clips in range(1, batch + 1):
        room = free / clips - cost.recomputed
        if room < 0:
            break
        kept = min(layers, int(room // max(cost.kept_layer, 1)))
        passes = math.ceil(batch / clips)
        again = _RECOMPUTE * (layers - kept) / layers
        work = passes * _PASS_IN_TOKENS + batch * cost.tokens * (1 + again)
        if best is None or work < best[0]:
            best = work, MemoryPlan(clips, layers - kept, eval_clips)
    if best is None:
        raise StudyError(
            f"runtime.memory_gb: {free / GIB:.1f} GiB are free for a training pass, and one clip "
            f"needs {cost.recomputed / GIB:.1f}; expected a larger GPU, a smaller model or a "
            "projector with fewer tokens."
        )
    return best[1]


def free_memory(device: torch.device, limit_gb: float | None) -> float:
    """Bytes that tensors may still take: what is free on the GPU, or what the limit leaves."""
    free, _ = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    available = float(free + torch.cuda.memory_reserved(device) - allocated)
    if limit_gb is not None:
        available = min(available, limit_gb * GIB - allocated)
    return available * (1 - _MARGIN)


def plan_memory(
    model: VisionLanguageModel,
    features: Tensor,
    caption: Sequence[int],
    batch: int,
    eval_batch: int,
    runtime: RuntimeConfig,
    autocast: Callable[[], torch.autocast],
) -> MemoryPlan:
    """Try one clip, choose a plan and set the layers of ``model`` to it.

    Args:
        model: as it will be trained, on its device.
        features: one clip ``[1, F, P, V]`` on the device.
        caption: the longest caption, as token ids.
        batch: clips of a forward pass as configured; the plan may cut it, never raise it.
        eval_batch: likewise for validation.
        runtime: limit of memory, compilation and recomputation as configured.
        autocast: context of the forward pass.

    Raises:
        StudyError: not even one clip fits.
    """
    device = features.device
    layers = len(decoder_layers(model.llm))
    on_gpu = device.type == "cuda"
    compiled = runtime.compile == "on" or (runtime.compile == "auto" and on_gpu)
    if compiled:
        use_lean_adapters(model.llm)
    if not on_gpu:
        recomputed = layers if runtime.checkpointing == "all" else 0
        set_layers(model.llm, compiled=compiled, recomputed=recomputed)
        return MemoryPlan(batch, recomputed, eval_batch)

    def peak(recomputed: int, backward: bool = True) -> float:
        set_layers(model.llm, compiled=compiled, recomputed=recomputed)
        return _peak(model, features, caption, autocast, backward)

    probe = max(1, layers // 6)
    peak(layers)  # compiles, and lets libraries take their workspaces
    everything = peak(layers)
    cost = ClipCost(
        recomputed=everything,
        kept_layer=max(0.0, (peak(layers - probe) - everything) / probe),
        validated=peak(layers, backward=False),
        tokens=model.prompt_length(features) + len(caption),
    )
    torch.cuda.empty_cache()
    free = free_memory(device, runtime.memory_gb) - _optimizer_bytes(model)
    plan = fit(cost, free, batch, eval_batch, layers)
    if runtime.checkpointing != "auto":
        forced = layers if runtime.checkpointing == "all" else 0
        each = cost.recomputed + (layers - forced) * cost.kept_layer
        plan = MemoryPlan(max(1, min(batch, int(free // each))), forced, plan.eval_clips)
    used = plan.forward_clips * (cost.recomputed + (layers - plan.recomputed) * cost.kept_layer)
    # Room that nothing else can use: NF4 weights are unpacked once, not in every pass.
    unpacked = plan.recomputed == 0 and 0 < dequantized_growth(model.llm) <= free - used
    if unpacked:
        dequantize(model.llm)
    set_layers(model.llm, compiled=compiled, recomputed=plan.recomputed)
    log.info(
        "memory: %.1f GiB free, %d of %d clips a forward pass, %d of %d layers recomputed%s",
        free / GIB,
        plan.forward_clips,
        batch,
        plan.recomputed,
        layers,
        ", NF4 weights unpacked once" if unpacked else "",
    )
    return plan


def _peak(
    model: VisionLanguageModel,
    features: Tensor,
    caption: Sequence[int],
    autocast: Callable[[], torch.autocast],
    backward: bool,
) -> float:
    """Bytes above what is allocated now, at the worst moment of one pass."""
    was_training = model.training
    model.train(backward)
    torch.cuda.synchronize(features.device)
    torch.cuda.reset_peak_memory_stats(features.device)
    before = torch.cuda.memory_allocated(features.device)
    with torch.set_grad_enabled(backward), autocast():
        losses, _ = model.caption_loss(features, [caption])
    if backward:
        losses.sum().backward()
    for parameter in model.trainable().values():
        parameter.grad = None
    model.train(was_training)
    return float(torch.cuda.max_memory_allocated(features.device) - before)


def _optimizer_bytes(model: VisionLanguageModel) -> float:
    # Gradient, two moments and the best weights so far, each in fp32.
    return 16.0 * sum(parameter.numel() for parameter in model.trainable().values())
