"""How vectors of clips lie to each other: the figures by which a collapse is told.

Pure functions of tensors. All of them are unchanged when every vector is scaled by one factor.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def effective_rank(vectors: Tensor) -> float:
    """exp of the entropy of the normalised singular values (Roy & Vetterli 2007, EUSIPCO).

    Not centred: vectors that all point one way have rank 1, k equal orthogonal directions rank k.
    Singular values are the roots of the eigenvalues of the smaller Gram matrix, in float64: the
    root makes 1e-7 of rounding a 3e-4 of a singular value, and thousands of those a rank.

    Args:
        vectors: ``[N, D]``.

    Returns:
        In [1, min(N, D)]; 0 where all vectors are zero.
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
    """Share of each clip's nearest clips that stay its nearest, mean over clips.

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
    k = overlap_neighbours(len(before), neighbours)
    if k == 0:
        return None
    near = [_nearest(vectors, k) for vectors in (before, after)]
    if near[0] is None or near[1] is None:
        return None
    shared = [len({*one} & {*two}) for one, two in zip(near[0], near[1], strict=True)]
    return sum(shared) / (k * len(shared))


def overlap_neighbours(clips: int, neighbours: int = 5) -> int:
    """The k of :func:`neighbour_overlap` for that many clips."""
    return min(neighbours, max(0, clips - 1) // 2)


def _nearest(vectors: Tensor, k: int) -> list[list[int]] | None:
    wide = vectors.double().cpu()
    centred = wide - wide[0]
    centred = centred - centred.mean(0)
    if not bool((centred != 0).any()):
        return None
    units = torch.nn.functional.normalize(centred, dim=1, eps=1e-300)
    cosines = units @ units.T
    cosines.fill_diagonal_(-math.inf)
    order = cosines.sort(dim=1, descending=True, stable=True).indices[:, :k]
    nearest: list[list[int]] = order.tolist()
    return nearest


class VideoShare:
    """Share of the vectors' energy that depends on the video; clips are added one by one.

    At each position t (a token, or a patch of a frame), over clips c:
    Σ ‖x_ct − mean_c x_ct‖² / Σ ‖x_ct‖². It is 0 exactly where every clip gives the same vectors,
    (N − 1)/N where clips have nothing in common, and unlike pooled vectors it does not fade with
    the number of tokens. Holds two tensors of the size of one clip, whatever N.
    """

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._sum: Tensor | None = None
        self._squares: list[Tensor] = []
        self._energy: list[Tensor] = []

    def add(self, clip: Tensor) -> None:
        """``[T, D]`` of one clip."""
        x = clip.float()
        if self._first is None or self._sum is None:
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
        if n < 2 or self._sum is None:
            return None
        energy = float(torch.stack(self._energy).sum())
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
