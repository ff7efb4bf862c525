"""What a projector does to a few fixed videos: the figures that say why it collapsed, if it did.

Measured before a stage and after each of its epochs, clip by clip, so that neither memory nor
result depends on how clips are batched. ``docs/how-to-read-the-report.md`` says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from siglip_study.captioning.generate import generate_captions
from siglip_study.metrics.diversity import clusters, distinct_ratio, effective_captions
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips
from siglip_study.runs.run import LoadedRun
from siglip_study.training.geometry import (
    VideoShare,
    attention_entropy,
    between_cosine,
    effective_rank,
    neighbour_overlap,
)

# ---- Which part of the model the gradient falls on, without waiting for the GPU in a step.

PROJECTOR, LORA = "projector", "lora"


def gradient_parts(trainable: Mapping[str, nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """Part → its parameters: ``projector.<child>`` for each child of the projector, then ``lora``.

    ``lora`` is there in both stages, so that histories have the same columns; in stage 1 it is
    empty.
    """
    parts: dict[str, list[nn.Parameter]] = {}
    adapters = []
    for name, parameter in trainable.items():
        room, _, rest = name.partition(".")
        if room == PROJECTOR:
            parts.setdefault(f"{PROJECTOR}.{rest.split('.')[0]}", []).append(parameter)
        else:
            adapters.append(parameter)
    return {**parts, LORA: adapters}


def gradient_norms(parts: Mapping[str, Sequence[nn.Parameter]], device: torch.device) -> Tensor:
    """L2 norm of each part's gradient, ``[parts]`` float32 on the device."""
    norms = []
    for parameters in parts.values():
        found = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(found) if found else torch.zeros((), device=device)
        norms.append(norm.float())
    return torch.stack(norms)


def norm_columns(parts: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Columns of steps.parquet: ``grad_norm_<part>``, and the projector as a whole."""
    columns = {f"grad_norm_{part}": norm for part, norm in zip(parts, norms, strict=True)}
    inside = [norm for part, norm in zip(parts, norms, strict=True) if part != LORA]
    whole = sum(norm**2 for norm in inside) ** 0.5
    return {f"grad_norm_{PROJECTOR}": whole, **columns}


def gradient_shares(steps: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Columns of epochs.parquet: each part's share of the squared gradient norm of some steps.

    ``grad_share_projector`` and ``grad_share_lora`` add up to 1, as do the former's parts to it.
    None where there was no gradient at all. AdamW divides each weight's step by its own gradient,
    so a share says where the loss is steep and not how far weights move.
    """
    prefix = "grad_norm_"
    names = [key.removeprefix(prefix) for key in steps[0] if key.startswith(prefix)]
    squares = {name: sum(row[prefix + name] ** 2 for row in steps) for name in names}
    total = squares.get(PROJECTOR, 0.0) + squares.get(LORA, 0.0)
    return {
        f"grad_share_{name}": square / total if total else None for name, square in squares.items()
    }


#: Tokens of all clips together whose effective rank is taken, evenly spaced in each clip: at
#: 32 clips × 4,608 tokens a Gram matrix of all of them would cost more than their projection.
RANKED_TOKENS = 1024

#: What is measured again before a stage's first step, as ``diag_start_…``.
AT_START = ("video_share_after", "cosine_after", "rank_clips")


@torch.no_grad()
def diagnose(
    model: VisionLanguageModel,
    features: Callable[[Sequence[str]], Tensor],
    ids: Sequence[str],
    accelerator: Accelerator,
) -> dict[str, Any]:
    """Columns ``diag_…`` of epochs.parquet; all None, and ``diag_n`` 0, without clips.

    * ``diag_rank_clips``: effective rank of the clips' mean tokens, in [1, clips].
    * ``diag_rank_tokens``: that of the tokens themselves.
    * ``diag_cosine_before``, ``_after``: mean cosine between clips of pooled encoder features, and
      of pooled tokens.
    * ``diag_video_share_before``, ``_after``: share of the energy of features and of tokens that
      depends on the video (:class:`VideoShare`).
    * ``diag_neighbour_overlap``: of pooled features with pooled tokens.
    * ``diag_attention_entropy``: where the projector attends to the video, else None.

    Args:
        model: is put into eval mode.
        features: ids → ``[B, F, P, V]``.
        ids: the clips, the same ones each time.
        accelerator: gives device and autocast.
    """
    model.eval()
    shares = VideoShare(), VideoShare()
    pooled: tuple[list[Tensor], list[Tensor]] = ([], [])
    ranked, entropies = [], []
    for clip in ids:
        seen = features([clip]).to(accelerator.device)  # [1, F, P, V]
        with accelerator.autocast(), attention_watched(model.projector) as attended:
            tokens = model.video_embeddings(seen)[0].float()  # [T, L]
        for side, vectors in enumerate((seen[0].flatten(0, 1).float(), tokens)):
            shares[side].add(vectors)
            pooled[side].append(vectors.mean(0))
        ranked.append(_spaced(tokens, max(1, RANKED_TOKENS // len(ids))))
        entropies += attended
    if not ids:
        return {"diag_n": 0, **dict.fromkeys(_COLUMNS)}
    before, after = (torch.stack(vectors) for vectors in pooled)
    entropy = float(torch.stack(entropies).mean()) if entropies else None
    values = (
        effective_rank(after),
        effective_rank(torch.cat(ranked)),
        between_cosine(before),
        between_cosine(after),
        shares[0].value,
        shares[1].value,
        neighbour_overlap(before, after),
        entropy,
    )
    return {"diag_n": len(ids), **dict(zip(_COLUMNS, values, strict=True))}


_COLUMNS = (
    "diag_rank_clips",
    "diag_rank_tokens",
    "diag_cosine_before",
    "diag_cosine_after",
    "diag_video_share_before",
    "diag_video_share_after",
    "diag_neighbour_overlap",
    "diag_attention_entropy",
)


def at_start(found: dict[str, Any]) -> dict[str, Any]:
    """What the history keeps of a diagnosis made before the first step."""
    return {f"diag_start_{name}": found.get(f"diag_{name}") for name in AT_START}


@contextmanager
def attention_watched(projector: nn.Module) -> Iterator[list[Tensor]]:
    """Entropies of the attention to the video, one a module and call, while the context lasts.

    Training keeps its fused kernels: weights are made here, from the modules' own inputs. Watched
    are ``nn.MultiheadAttention`` and modules with a method ``attention_weights`` (see
    :class:`~siglip_study.projectors.base.Projector`); self-attention is left out.
    """
    found: list[Tensor] = []

    def watch(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.MultiheadAttention):
            queries, keys = inputs[:2]
            if queries is keys:
                return
            # Through the class: a call of the module would come here again.
            weights = nn.MultiheadAttention.forward(
                module, queries, keys, keys, need_weights=True, average_attn_weights=False
            )[1]
        else:
            weights = module.attention_weights(*inputs)  # type: ignore[operator]
        assert weights is not None  # they were asked for
        found.append(attention_entropy(weights))

    handles = [
        module.register_forward_pre_hook(watch)
        for module in projector.modules()
        if isinstance(module, nn.MultiheadAttention) or hasattr(module, "attention_weights")
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _spaced(tokens: Tensor, most: int) -> Tensor:
    """At most ``most`` rows of ``[T, L]``, evenly spaced, the first one included."""
    count = min(most, len(tokens))
    rows = torch.arange(count, device=tokens.device) * len(tokens) // count
    return tokens[rows]


# ---- What is looked at after each epoch.

# Looks at a handful of selection clips; returns columns for epochs.parquet.
Look = Callable[[VisionLanguageModel], dict[str, Any]]


def quick_look(loaded: LoadedRun, clips: Clips) -> Look:
    """Caption a few selection clips and measure how diverse the captions are."""
    training = loaded.run.training
    ids = clips.ids[: training.quick_clips]

    def look(model: VisionLanguageModel) -> dict[str, Any]:
        if not ids:
            return {
                "quick_n": 0,
                "quick_effective_captions": None,
                "quick_distinct_ratio": None,
            }
        captions = generate_captions(
            model,
            loaded.tokenizer,
            ids,
            clips.features.batch,
            max_new_tokens=training.quick_tokens,
            batch_size=len(ids),
            memory_gb=loaded.memory_gb,
        )
        texts = [caption.text for caption in captions]
        return {
            "quick_n": len(texts),
            "quick_effective_captions": float(effective_captions(clusters(texts))),
            "quick_distinct_ratio": float(distinct_ratio(texts)),
        }

    return look


def clip_diagnosis(loaded: LoadedRun, clips: Clips) -> Look:
    """Measure what the projector makes of a few selection clips, always the same ones."""
    ids = clips.ids[: loaded.run.training.diagnosis_clips]
    return lambda model: diagnose(model, clips.features.batch, ids, loaded.accelerator)
