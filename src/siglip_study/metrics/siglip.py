"""Cosines and probabilities of caption and clip under a SigLIP-like scorer, from embeddings.

Frame order is invisible here: a clip is the mean of its frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siglip_study.errors import StudyError

#: Cosine of an empty caption with anything: the least there is.
EMPTY_COSINE = -1.0


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(norms).all():
        raise StudyError("scorer embeddings hold a value that is not finite; expected numbers.")
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def clip_vectors(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """One unit vector a clip: the mean of its unit frame embeddings, normalised.

    Args:
        frames: N arrays ``[F, E]``, or one ``[N, F, E]``; F may differ between clips.

    Returns:
        ``[N, E]`` float64.
    """
    return _unit(np.stack([_unit(clip).mean(axis=0) for clip in frames]))


class Chunks:
    """All captions' chunks as unit vectors in a row, made once for all that is read from them."""

    def __init__(
        self, chunk_embeddings: Sequence[np.ndarray], chunk_weights: Sequence[np.ndarray]
    ) -> None:
        """Per caption ``[C, E]`` embeddings and ``[C]`` lengths; C = 0 for an empty one."""
        self.n = len(chunk_embeddings)
        self.parts = _flat(chunk_embeddings, chunk_weights)

    def __len__(self) -> int:
        """Captions."""
        return self.n


def _parts(
    chunks: Chunks | Sequence[np.ndarray], weights: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if isinstance(chunks, Chunks):
        return chunks.parts
    return _flat(chunks, weights if weights is not None else [np.ones(len(c)) for c in chunks])


def _flat(
    chunk_embeddings: Sequence[np.ndarray], chunk_weights: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All chunks in a row: unit vectors ``[C, E]``, weights that sum to 1 a caption, owner."""
    counts = [len(chunks) for chunks in chunk_embeddings]
    if counts != [len(weights) for weights in chunk_weights]:
        raise StudyError("captions' chunk embeddings and chunk weights differ in number.")
    owner = np.repeat(np.arange(len(counts)), counts)
    filled = [chunks for chunks in chunk_embeddings if len(chunks)]
    if not filled:
        return np.zeros((0, 0)), np.zeros(0), owner
    weights = np.concatenate([np.asarray(w, dtype=np.float64) for w in chunk_weights])
    total = np.bincount(owner, weights, minlength=len(counts))
    if (weights < 0).any() or (total[owner] <= 0).any():
        raise StudyError("a caption's chunk weights must be positive; expected chunk lengths.")
    return _unit(np.concatenate(filled)), weights / total[owner], owner


def _sums(rows: np.ndarray, owner: np.ndarray, n: int) -> np.ndarray:
    """Rows added up by owner (ascending): ``[n, E]``, 0 for an owner without any."""
    result = np.zeros((n, rows.shape[1]))
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    result[owner[starts]] = np.add.reduceat(rows, starts, axis=0)
    return result


def score_matrix(
    chunk_embeddings: Chunks | Sequence[np.ndarray],
    chunk_weights: Sequence[np.ndarray] | None,
    images: np.ndarray,
) -> np.ndarray:
    """Cosine S of every caption with every clip.

    A caption's cosine is the mean over its chunks' cosines, weighted by their lengths. An empty
    caption (no chunk) has −1 with every clip.

    Args:
        chunk_embeddings: per caption ``[C, E]``, C = 0 for an empty one; or ``Chunks`` of them.
        chunk_weights: per caption ``[C]``, the chunks' lengths; None with ``Chunks``.
        images: clip vectors ``[N, E]``.

    Returns:
        ``[captions, N]`` float64 in [−1, 1].
    """
    unit, weights, owner = _parts(chunk_embeddings, chunk_weights)
    matrix = np.zeros((len(chunk_embeddings), len(images)))
    if len(unit):
        # The mean of cosines is the cosine with the mean chunk: one product a caption, not a chunk.
        matrix = _sums(weights[:, None] * unit, owner, len(matrix)) @ _unit(images).T
    empty = np.bincount(owner, minlength=len(matrix)) == 0
    matrix[empty] = EMPTY_COSINE
    return np.clip(matrix, -1.0, 1.0)


def siglip_sum(chunk_embeddings: Chunks | Sequence[np.ndarray], images: np.ndarray) -> np.ndarray:
    """Per caption the *sum* over its chunks of the cosine with its own clip: ``[N]``.

    Beside the mean, since a mean rewards saying only the one sentence that is safe. −1 if empty.
    """
    unit, _, owner = _parts(chunk_embeddings, None)
    n = len(chunk_embeddings)
    if n != len(images):
        raise StudyError(f"{n} captions but {len(images)} clips; expected one caption a clip.")
    empty = np.bincount(owner, minlength=n) == 0
    if not len(unit):
        return np.full(n, EMPTY_COSINE)
    own = (unit * _unit(images)[owner]).sum(axis=1)
    return np.where(empty, EMPTY_COSINE, np.bincount(owner, own, minlength=n))


def caption_vectors(
    chunk_embeddings: Chunks | Sequence[np.ndarray],
    chunk_weights: Sequence[np.ndarray] | None,
    width: int,
) -> np.ndarray:
    """One vector a caption, the length-weighted mean of its unit chunks: ``[N, width]``.

    An empty caption is the zero vector.
    """
    unit, weights, owner = _parts(chunk_embeddings, chunk_weights)
    vectors = np.zeros((len(chunk_embeddings), width))
    if len(unit):
        vectors = _sums(weights[:, None] * unit, owner, len(vectors))
    return vectors


def siglip_sigmoid(cosine: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """The scorer's probability that caption and clip belong together, in [0, 1].

    Args:
        cosine: any shape.
        scale: the factor itself, i.e. exp of a checkpoint's ``logit_scale``.
        bias: the checkpoint's ``logit_bias``.
    """
    logit = scale * np.asarray(cosine, dtype=np.float64) + bias
    # Two forms, each with a negative exponent, so that nothing overflows.
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1 / (1 + small), small / (1 + small))


def siglip_published(
    text: np.ndarray,
    frames: Sequence[np.ndarray] | np.ndarray,
    scale: float,
    bias: float,
    empty: np.ndarray | None = None,
) -> np.ndarray:
    """The published study's score: mean over a clip's frames of sigmoid(logit), in [0, 1].

    Kept for comparison only: its text was cut at 64 tokens and not padded as the model expects.

    Args:
        text: ``[N, E]`` embeddings of the unpadded, cut captions.
        frames: N arrays ``[F, E]``.
        scale: see :func:`siglip_sigmoid`.
        bias: see :func:`siglip_sigmoid`.
        empty: ``[N]`` bool, captions that score 0 because they say nothing.
    """
    unit = _unit(text)
    values = np.array(
        [siglip_sigmoid(_unit(clip) @ unit[i], scale, bias).mean() for i, clip in enumerate(frames)]
    )
    return values if empty is None else np.where(empty, 0.0, values)
