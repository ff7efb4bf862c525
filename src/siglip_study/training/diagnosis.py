"""What a projector does to a few fixed videos: the figures that say why it collapsed, if it did.

Measured before a stage and after each of its epochs, clip by clip, so that neither memory nor
result depends on how clips are batched. ``docs/how-to-read-the-report.md`` says what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from siglip_study.captioning.generate import generate_captions
from siglip_study.metrics.diversity import clusters, distinct_ratio, effective_captions
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, caption_losses
from siglip_study.runs.run import LoadedRun

# ---- How vectors of clips lie to each other: unchanged when every vector is scaled by one factor.


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007, EUSIPCO).

    Not centred: vectors that all point one way have rank 1, k equal orthogonal directions rank k.
    Singular values are the roots of the eigenvalues of the smaller Gram matrix, in float64: the
    root makes 1e-7 of rounding a 3e-4 of a singular value, and thousands of those a rank.
    ``[N, D]`` → in [1, min(N, D)]; 0 where all vectors are zero.
    """
    wide = vectors.double()
    gram = wide @ wide.T if len(wide) <= wide.shape[1] else wide.T @ wide
    values = torch.linalg.eigvalsh(gram.cpu()).clamp(min=0)
    top = float(values[-1])
    if top == 0:
        return 0.0
    # What is under the rounding of the largest eigenvalue is no direction.
    kept = values[values > top * len(values) * torch.finfo(torch.float64).eps].sqrt()
    shares = kept / kept.sum()
    return math.exp(-float((shares * shares.log()).sum()))


def between_cosine(vectors: Tensor) -> float | None:
    """Mean cosine of all pairs of ``[N, D]`` vectors, one a clip; in [−1, 1].

    A zero vector has cosine 0 with any other. None for fewer than two clips. There is no centred
    variant: centred vectors have a mean cosine near −1/(N − 1) whatever they are.
    """
    n = len(vectors)
    if n < 2:
        return None
    units = torch.nn.functional.normalize(vectors.double(), dim=1, eps=1e-300)
    squares = float(units.pow(2).sum())
    return (float(units.sum(0).pow(2).sum()) - squares) / (n * (n - 1))


def neighbour_overlap(before: Tensor, after: Tensor, neighbours: int = 5) -> float | None:
    """Share of each clip's k nearest clips that stay its nearest, mean over clips.

    Nearness is the cosine of vectors from which the mean over clips is taken: what all clips have
    in common says nothing of who is near whom. Ties go to the earlier clip.

    Args:
        before: ``[N, V]``, a vector a clip.
        after: ``[N, L]`` of the same clips in the same order.
        neighbours: k; at most half the other clips are compared.

    Returns:
        In [0, 1]; chance is k / (N − 1). None for fewer than three clips, and where all vectors of
        a side are the same, so that there are no neighbours.
    """
    k = min(neighbours, (len(before) - 1) // 2)
    if k <= 0:
        return None
    near: list[list[list[int]]] = []
    for vectors in (before, after):
        wide = vectors.double().cpu()
        centred = wide - wide[0]
        centred = centred - centred.mean(0)
        if not bool((centred != 0).any()):
            return None
        units = torch.nn.functional.normalize(centred, dim=1, eps=1e-300)
        cosines = units @ units.T
        cosines.fill_diagonal_(-math.inf)
        near.append(cosines.sort(dim=1, descending=True, stable=True).indices[:, :k].tolist())
    shared = [len({*one} & {*two}) for one, two in zip(*near, strict=True)]
    return sum(shared) / (k * len(shared))


class VideoShare:
    """Share of the vectors' energy that depends on the video; clips are added one by one.

    At each position t (a token, or a patch of a frame), over clips c:
    Σ ‖x_ct − mean_c x_ct‖² / Σ ‖x_ct‖². It is 0 exactly where every clip gives the same vectors,
    (N − 1)/N where clips have nothing in common, and unlike pooled vectors it does not fade with
    the number of tokens. Holds two tensors of the size of one clip, whatever N.
    """

    def __init__(self) -> None:
        self._squares: list[Tensor] = []
        self._energy: list[Tensor] = []

    def add(self, clip: Tensor) -> None:
        """``[T, D]`` of one clip."""
        x = clip.float()
        if not self._energy:
            self._first, self._sum = x.clone(), torch.zeros_like(x)
        # Differences from the first clip: those of equal clips are 0, without cancellation.
        difference = x - self._first
        self._sum += difference
        self._squares.append(_square(difference))
        self._energy.append(_square(x))

    @property
    def value(self) -> float | None:
        """In [0, 1]; None for fewer than two clips or where all vectors are zero."""
        n = len(self._energy)
        energy = float(torch.stack(self._energy).sum()) if n > 1 else 0.0
        if energy == 0:
            return None
        varying = float(torch.stack(self._squares).sum() - _square(self._sum) / n)
        return min(1.0, max(0.0, varying / energy))


def _square(x: Tensor) -> Tensor:
    # Rows first, so that float64 is needed for their sums alone.
    return x.pow(2).sum(-1).double().sum()


def attention_entropy(weights: Tensor) -> Tensor:
    """Entropy of attention weights ``[..., K]`` over the log of K, meaned over all queries.

    0: every query reads one key; 1: every query averages all keys alike. A scalar on the device;
    0 for a single key.
    """
    keys = weights.shape[-1]
    if keys == 1:
        return torch.zeros((), device=weights.device)
    entropy = torch.special.entr(weights.float()).sum(-1)
    return entropy.mean() / math.log(keys)


# ---- A model.

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

    ``features`` gives ``[B, F, P, V]`` for ids. The model is put into eval mode.
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
        count = min(max(1, RANKED_TOKENS // len(ids)), len(tokens))
        ranked.append(tokens[torch.arange(count, device=tokens.device) * len(tokens) // count])
        entropies += attended
    if not ids:
        return {"diag_n": 0, **dict.fromkeys(_COLUMNS)}
    before, after = (torch.stack(vectors) for vectors in pooled)
    values = (
        effective_rank(after),
        effective_rank(torch.cat(ranked)),
        between_cosine(before),
        between_cosine(after),
        shares[0].value,
        shares[1].value,
        neighbour_overlap(before, after),
        float(torch.stack(entropies).mean()) if entropies else None,
    )
    return {"diag_n": len(ids), **dict(zip(_COLUMNS, values, strict=True))}


#: Clips whose frames are exchanged, at most: each is read twice by the whole model.
FOREIGN_CLIPS = 16


def frame_cost(
    model: VisionLanguageModel, clips: Clips, n: int, batch: int, accelerator: Accelerator
) -> float | None:
    """What one foreign frame costs the captions of the first ``n`` clips: mean rise of loss, nats a
    token.

    In clip i, frame i mod F is that of the next clip; at most ``batch`` clips share a pass. It is 0
    where the video is not read, and the shuffled gap is that of all frames together. None for fewer
    than two clips.
    """
    ids, captions = clips.ids[:n], [options[0] for options in clips.captions[:n]]
    if len(ids) < 2:
        return None

    def own(rows: list[int]) -> Tensor:
        return clips.features.batch([ids[i] for i in rows])

    def changed(rows: list[int]) -> Tensor:
        videos = own(rows).clone()
        foreign = own([(i + 1) % len(ids) for i in rows])
        for row, i in enumerate(rows):
            frame = i % videos.shape[1]
            videos[row, frame] = foreign[row, frame]
        return videos

    plain, counts = caption_losses(model, own, captions, batch, accelerator)
    foreign, _ = caption_losses(model, changed, captions, batch, accelerator)
    rises = [(b - a) / count for a, b, count in zip(plain, foreign, counts, strict=True)]
    return sum(rises) / len(rises)


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


# ---- What is looked at after each epoch.

# Looks at a handful of selection clips; returns columns for epochs.parquet.
Look = Callable[[VisionLanguageModel], dict[str, Any]]


def quick_look(loaded: LoadedRun, clips: Clips) -> Look:
    """Caption a few selection clips and measure how diverse the captions are."""
    training = loaded.run.training
    ids = clips.ids[: training.quick_clips]

    def look(model: VisionLanguageModel) -> dict[str, Any]:
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
            "quick_effective_captions": effective_captions(clusters(texts)) if texts else None,
            "quick_distinct_ratio": distinct_ratio(texts) if texts else None,
        }

    return look


def clip_diagnosis(loaded: LoadedRun, clips: Clips) -> Look:
    """Measure what the projector makes of a few selection clips, always the same ones."""
    ids = clips.ids[: loaded.run.training.diagnosis_clips]
    return lambda model: diagnose(model, clips.features.batch, ids, loaded.accelerator)
