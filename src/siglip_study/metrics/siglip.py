"""Cosines and probabilities of caption and clip under a SigLIP-like scorer, from embeddings.

Frame order is invisible here: a clip is the mean of its frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import PerClip, metric

#: Cosine of an empty caption with anything: the least there is.
EMPTY_COSINE = -1.0


@metric(bounds=(-1, 1), higher_is_better=True, tokens="model", unit="cosine")
def siglip_cosine(similarity: np.ndarray) -> PerClip:
    """Cosine of the caption's chunks with the mean of the clip's frames."""
    return np.diagonal(similarity)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float64)
    norms = _norms(vectors)[:, None]
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def _norms(rows: np.ndarray) -> np.ndarray:
    """Lengths ``[R]`` of rows ``[R, E]``."""
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    if not np.isfinite(norms).all():
        raise StudyError("scorer embeddings hold a value that is not finite; expected numbers.")
    return norms


def clip_vectors(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """One unit vector a clip: the mean of its unit frame embeddings, normalised.

    Args:
        frames: N arrays ``[F, E]``, or one ``[N, F, E]``; F may differ between clips.

    Returns:
        ``[N, E]`` float64.
    """
    return _unit(np.stack([_unit(clip).mean(axis=0) for clip in frames]))


class Chunks:
    """All captions' chunks, read once for all that is made of them.

    Attributes:
        empty: ``[N]`` captions without a chunk.
        means: ``[N, E]`` length-weighted mean of each caption's unit chunks; 0 for an empty one.
        sums: ``[N, E]`` their sum; 0 for an empty one.
    """

    def __init__(
        self, chunk_embeddings: Sequence[np.ndarray], chunk_weights: Sequence[np.ndarray]
    ) -> None:
        """Per caption ``[C, E]`` embeddings and ``[C]`` lengths; C = 0 for an empty one.

        Raises:
            StudyError: their numbers differ, a length is not positive, a value not finite.
        """
        counts = [len(chunks) for chunks in chunk_embeddings]
        if counts != [len(weights) for weights in chunk_weights]:
            raise StudyError("captions' chunk embeddings and chunk weights differ in number.")
        self.empty = np.array(counts, dtype=np.int64) == 0
        width = max((chunks.shape[1] for chunks in chunk_embeddings), default=0)
        self.means, self.sums = np.zeros((2, len(counts), width))
        # Caption by caption, in the same place: float64 copies of all chunks at once would be the
        # slowest part.
        copies = np.empty((max(counts, default=0), width))
        for i in np.flatnonzero(~self.empty).tolist():
            rows = copies[: counts[i]]
            rows[:] = chunk_embeddings[i]
            weights = np.asarray(chunk_weights[i], dtype=np.float64)
            total = weights.sum()
            if total <= 0 or weights.min() < 0:
                raise StudyError(
                    "a caption's chunk weights must be positive; expected chunk lengths."
                )
            norms = _norms(rows)
            inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
            np.matmul(weights / total * inverse, rows, out=self.means[i])
            np.matmul(inverse, rows, out=self.sums[i])


def score_matrix(
    chunk_embeddings: Sequence[np.ndarray], chunk_weights: Sequence[np.ndarray], images: np.ndarray
) -> np.ndarray:
    """Cosine S of every caption with every clip, ``[captions, N]`` float64 in [−1, 1].

    A caption's cosine is the mean over its chunks' cosines, weighted by their lengths; see
    :class:`Chunks`. An empty caption has −1 with every clip. ``images`` are the clip vectors
    ``[N, E]``.
    """
    chunks = Chunks(chunk_embeddings, chunk_weights)
    return cosine_matrix(chunks.means, chunks.empty, images)


def cosine_matrix(vectors: np.ndarray, empty: np.ndarray, images: np.ndarray) -> np.ndarray:
    """S from the captions' mean chunks ``[captions, E]``; see :func:`score_matrix`.

    The mean of cosines is the cosine with the mean chunk: one product a caption, not a chunk.
    """
    matrix = vectors @ _unit(images).T
    matrix[empty] = EMPTY_COSINE
    return np.clip(matrix, -1.0, 1.0, out=matrix)


def own_cosines(vectors: np.ndarray, empty: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The diagonal of S ``[N]``."""
    own = np.einsum("ij,ij->i", vectors, _unit(images))
    return np.where(empty, EMPTY_COSINE, np.clip(own, -1.0, 1.0))


@metric(
    bounds=(None, None), higher_is_better=True, tokens="model", unit="cosine", beside_scorer=True
)
def siglip_sum(chunks: Chunks, images: np.ndarray) -> np.ndarray:
    """Sum of the chunks' cosines with the clip: what brevity gives up.

    ``[N]``, beside the mean, which rewards saying only the one sentence that is safe. −1 if empty.
    """
    n = len(chunks.sums)
    if n != len(images):
        raise StudyError(f"{n} captions but {len(images)} clips; expected one caption a clip.")
    own = np.einsum("ij,ij->i", chunks.sums, _unit(images))
    return np.where(chunks.empty, EMPTY_COSINE, own)


@metric(bounds=(0, 1), higher_is_better=True, tokens="model", beside_scorer=True)
def siglip_sigmoid(cosine: np.ndarray, scale: float, bias: float) -> np.ndarray:
    """The scorer's probability that the pair belongs together (audit).

    Args:
        cosine: any shape.
        scale: the factor itself, i.e. exp of a checkpoint's ``logit_scale``.
        bias: the checkpoint's ``logit_bias``.
    """
    logit = scale * np.asarray(cosine, dtype=np.float64) + bias
    # Two forms, each with a negative exponent, so that nothing overflows.
    small = np.exp(-np.abs(logit))
    return np.where(logit >= 0, 1 / (1 + small), small / (1 + small))


class Frames:
    """All clips' frames in a row, their lengths taken once for all captioners."""

    def __init__(self, frames: Sequence[np.ndarray] | np.ndarray) -> None:
        """N arrays ``[F, E]``; F may differ between clips."""
        self.clips = frames
        self.counts = np.array([len(clip) for clip in frames])
        self._norms = _norms(np.concatenate(list(frames), dtype=np.float64))

    def cosines(self, unit: np.ndarray) -> np.ndarray:
        """Of each clip's frames with its row of ``unit`` ``[N, E]``, all frames in a row."""
        products = [
            np.asarray(clip, dtype=np.float64) @ row
            for clip, row in zip(self.clips, unit, strict=True)
        ]
        found = np.concatenate(products)
        return np.divide(found, self._norms, out=np.zeros_like(found), where=self._norms > 0)


@metric(bounds=(0, 1), higher_is_better=True, tokens="model", beside_scorer=True)
def siglip_published(
    text: np.ndarray,
    frames: Frames,
    scale: float,
    bias: float,
    empty: np.ndarray | None = None,
) -> np.ndarray:
    """The published study's score, a mean of sigmoids (audit).

    The mean over a clip's frames of sigmoid(logit). Kept for comparison only: its text was cut at
    64 tokens and not padded as the model expects.

    Args:
        text: ``[N, E]`` embeddings of the unpadded, cut captions.
        frames: of the clips.
        scale: as of :func:`siglip_sigmoid`, like ``bias``.
        bias: the checkpoint's ``logit_bias``.
        empty: ``[N]`` bool, captions that score 0 because they say nothing.
    """
    owner = np.repeat(np.arange(len(frames.counts)), frames.counts)
    each = siglip_sigmoid(frames.cosines(_unit(text)), scale, bias)
    values = np.bincount(owner, each, minlength=len(frames.counts)) / frames.counts
    return values if empty is None else np.where(empty, 0.0, values)
