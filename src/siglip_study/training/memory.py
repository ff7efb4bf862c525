"""Forward batches and recomputed layers that fit the GPU, found by trying one clip.

The same optimizer step can be cut into smaller forward passes and its layers recomputed in the
backward pass: memory and time differ a lot, results in rounding and, where adapters have dropout,
in which activations a pass happens to drop. Trial passes of the longest clip say what a clip costs,
and what a layer that keeps its activations adds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from siglip_study.config.study import RuntimeConfig
from siglip_study.models.devices import free_bytes
from siglip_study.models.llm_layers import decoder_layers, set_layers
from siglip_study.models.lora_layers import use_lean_adapters
from siglip_study.models.quantization import dequantize, dequantized_growth
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.training.memory_plan import (
    GIB,
    MemoryPlan,
    bytes_for_passes,
    clip_cost,
    fit,
    kept_layers,
)

log = logging.getLogger(__name__)


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

    def probe(recomputed: int, backward: bool) -> float:
        set_layers(model.llm, compiled=compiled, recomputed=recomputed)
        return _peak(model, features, caption, autocast, backward)

    tokens = model.prompt_length(features) + len(caption)
    cost = clip_cost(probe, layers, features.nbytes, tokens)
    torch.cuda.empty_cache()
    trained = sum(parameter.numel() for parameter in model.trainable().values())
    free = bytes_for_passes(free_bytes(device, runtime.memory_gb), trained)
    kept = kept_layers(runtime.checkpointing, layers)
    plan = fit(cost, free, batch, eval_batch, layers, kept, dequantized_growth(model.llm))
    if plan.unpacked:
        dequantize(model.llm)
    set_layers(model.llm, compiled=compiled, recomputed=plan.recomputed)
    log.info(
        "memory: %.1f GiB free, %d of %d clips a forward pass, %d of %d layers recomputed%s",
        free / GIB,
        plan.forward_clips,
        batch,
        plan.recomputed,
        layers,
        ", NF4 weights unpacked once" if plan.unpacked else "",
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
    try:
        with torch.set_grad_enabled(backward), autocast():
            losses, _ = model.caption_loss(features, [caption])
        if backward:
            losses.sum().backward()
    finally:
        for parameter in model.trainable().values():
            parameter.grad = None
        model.train(was_training)
    return float(torch.cuda.max_memory_allocated(features.device) - before)
