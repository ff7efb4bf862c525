"""Forward batches and recomputed layers that fit the GPU, found by trying one clip.

The same optimizer step can be cut into smaller forward passes and its layers recomputed in the
backward pass: memory and time differ a lot, results in rounding and, where adapters have dropout,
in which activations a pass happens to drop. Trial passes of the longest clip say what a clip costs,
and what a layer that keeps its activations adds.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.config.study import RuntimeConfig
from siglip_study.models.devices import USABLE, free_bytes
from siglip_study.models.fast_layers import decoder_layers, set_layers, use_lean_adapters
from siglip_study.models.quantization import dequantize, dequantized_growth
from siglip_study.models.vlm import VisionLanguageModel

log = logging.getLogger(__name__)

# ---- How an optimizer step is cut so that it fits the memory and is soon done: pure arithmetic.

GIB = 2**30
# A forward and backward pass reads, and under NF4 unpacks, every weight once more: as long as
# this many tokens take (measured on an H200: 20 ms, and 47 µs a token of an 8 B model).
_PASS_IN_TOKENS = 400
# A recomputed layer runs forward twice: three units of work in place of two.
_RECOMPUTE = 0.5
# A trained weight's gradient, two moments and best value so far, each in fp32.
_OPTIMIZER_BYTES = 16
# Features on the GPU at once: read, two waiting, and one in use.
_BATCHES_UNDER_WAY = 4


@dataclass(frozen=True)
class ClipCost:
    """What one clip of the longest sequence needs in a forward and backward pass, in bytes."""

    recomputed: float  # with all layers recomputed
    first_kept: float  # with the first kept layer, without what that layer adds
    kept_layer: float  # more, for each layer that keeps its activations
    validated: float  # in a forward pass alone
    features: float  # of one batch; several batches are under way at once
    tokens: int

    def of_pass(self, kept: int) -> float:
        """A clip's share of a training pass in which so many layers keep their activations."""
        layers = max(self.recomputed, self.first_kept + kept * self.kept_layer if kept else 0.0)
        return layers + _BATCHES_UNDER_WAY * self.features

    def of_validation(self) -> float:
        """A clip's share of a validation pass."""
        return self.validated + _BATCHES_UNDER_WAY * self.features


@dataclass(frozen=True)
class MemoryPlan:
    """Clips a forward pass, recomputed layers, and clips a validation batch."""

    forward_clips: int
    recomputed: int
    eval_clips: int
    unpacked: bool = False  # NF4 weights take 16 bits for as long as the job runs


def bytes_for_passes(available: float, trained: int) -> float:
    """What passes may take of ``available`` bytes beside the optimizer of ``trained`` weights."""
    return available * USABLE - _OPTIMIZER_BYTES * trained


def bytes_needed(a_pass: float, trained: int) -> float:
    """The inverse: available bytes that leave ``a_pass`` for passes."""
    return (a_pass + _OPTIMIZER_BYTES * trained) / USABLE


def kept_layers(checkpointing: str, layers: int) -> Sequence[int]:
    """Numbers of layers that may keep their activations, by ``runtime.checkpointing``."""
    choices = {"auto": range(layers + 1), "all": [0], "none": [layers]}
    return choices[checkpointing]


def clip_cost(
    probe: Callable[[int, bool], float], layers: int, features: float, tokens: int
) -> ClipCost:
    """Try one clip: ``probe`` tells the bytes a pass takes, for a number of recomputed layers.

    Its flag asks for a backward pass. The peak with every layer recomputed already holds the
    activations of the one layer that is just run again, so what a kept layer adds is read off two
    passes that keep some.

    Raises:
        StudyError: one clip does not fit with every layer recomputed.
    """
    try:
        probe(layers, True)  # compiles, and lets libraries take their workspaces
        recomputed = probe(layers, True)
        validated = probe(layers, False)
    except torch.OutOfMemoryError as error:
        raise StudyError(
            f"the GPU's memory does not hold one clip of {tokens} tokens in training "
            f"({str(error).splitlines()[0]}); expected a larger GPU, a smaller model or a "
            "projector with fewer tokens."
        ) from None
    first_kept, kept_layer = recomputed, float("inf")
    for kept in (max(1, layers // 8), 1):
        try:
            few, more = probe(layers - kept, True), probe(max(0, layers - 2 * kept), True)
        except torch.OutOfMemoryError:
            continue
        kept_layer = max(0.0, (more - few) / kept)
        first_kept = few - kept * kept_layer
        break
    return ClipCost(recomputed, first_kept, kept_layer, validated, features, tokens)


def least_pass(cost: ClipCost, kept: Sequence[int]) -> float:
    """Bytes of the leanest training pass there is: one clip, and any of these numbers of layers."""
    return min(map(cost.of_pass, kept))


def fit(
    cost: ClipCost,
    free: float,
    batch: int,
    eval_batch: int,
    layers: int,
    kept: Sequence[int],
    growth: float = 0.0,
) -> MemoryPlan:
    """The fastest plan within ``free`` bytes.

    Larger forward passes read the weights less often; layers that keep their activations are not
    run twice. Every size of forward pass, up to ``batch`` clips, is tried with each of the numbers
    of ``kept`` layers. ``growth``: bytes that unpacking NF4 weights would take; 0: there are none.

    Raises:
        StudyError: not even one clip fits.
    """

    def work(clips: int, n: int) -> float:
        """In tokens that pass all layers forward and backward."""
        again = _RECOMPUTE * (layers - n) / layers
        return math.ceil(batch / clips) * _PASS_IN_TOKENS + batch * cost.tokens * (1 + again)

    sizes = range(1, batch + 1)
    fitting = [(c, n) for c in sizes for n in kept if c * cost.of_pass(n) <= free]
    if not fitting:
        raise StudyError(
            f"runtime.memory_gb and runtime.checkpointing: {free / GIB:.1f} GiB are free for a "
            f"training pass, and one clip needs {least_pass(cost, kept) / GIB:.1f}; "
            "expected a larger GPU, a smaller model or a projector with fewer tokens."
        )
    clips, n = min(fitting, key=lambda plan: work(*plan))
    # Room that nothing else can use: NF4 weights are unpacked once, not in every pass.
    unpacked = n == layers and 0 < growth <= free - clips * cost.of_pass(n)
    left = free - growth if unpacked else free
    eval_clips = max(1, min(eval_batch, int(left // max(cost.of_validation(), 1))))
    return MemoryPlan(clips, layers - n, eval_clips, unpacked)


def plan_memory(
    model: VisionLanguageModel,
    features: Tensor,
    caption: Sequence[int],
    batch: int,
    eval_batch: int,
    runtime: RuntimeConfig,
    autocast: Callable[[], torch.autocast],
) -> MemoryPlan:
    """Try one clip, choose a plan and set the layers of ``model``, as it will be trained, to it.

    ``features`` are one clip's, ``[1, F, P, V]`` on the device, with the longest caption's token
    ids. ``batch`` and ``eval_batch`` are clips of a forward pass as configured, in training and in
    validation; the plan may cut them, never raise them.

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
        """Bytes above what is allocated now, at the worst moment of one pass."""
        set_layers(model.llm, compiled=compiled, recomputed=recomputed)
        was_training = model.training
        model.train(backward)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            with torch.set_grad_enabled(backward), autocast():
                losses, _ = model.caption_loss(features, [caption])
            if backward:
                losses.sum().backward()
        finally:
            for parameter in model.trainable().values():
                parameter.grad = None
            model.train(was_training)
        return float(torch.cuda.max_memory_allocated(device) - before)

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
