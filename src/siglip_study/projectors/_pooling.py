"""Fewer tokens without a weight: patches averaged over a coarser grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

if TYPE_CHECKING:
    from siglip_study.projectors.base import Projector


def token_grid(tokens: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """Rows × columns of exactly ``tokens`` cells within ``grid``, as square as can be.

    8 tokens of a 24 × 24 grid are 2 × 4. None where no such grid fits.
    """
    fitting = [
        (rows, tokens // rows)
        for rows in range(1, min(tokens, grid[0]) + 1)
        if tokens % rows == 0 and tokens // rows <= grid[1]
    ]
    return min(fitting, key=lambda cells: abs(cells[1] - cells[0]), default=None)


def average_patches(features: Tensor, grid: tuple[int, int], cells: tuple[int, int]) -> Tensor:
    """``[B, F, P, V]`` → ``[B, F, rows · columns, V]``, each cell the mean of its patches."""
    batch, frames, _, width = features.shape
    images = features.reshape(batch * frames, *grid, width).permute(0, 3, 1, 2)
    pooled = adaptive_avg_pool2d(images, cells)  # [B·F, V, rows, columns]
    return pooled.flatten(2).transpose(1, 2).reshape(batch, frames, -1, width)


def cells_of(projector: Projector, tokens: int | None) -> tuple[int, int] | None:
    """The grid of a projector's option ``tokens_per_frame``; None where it keeps every patch.

    Raises:
        StudyError: no grid of exactly that many cells fits into the projector's.
    """
    if tokens is None:
        return None
    cells = token_grid(tokens, projector.shape.grid) if tokens >= 1 else None
    projector.require(
        cells is not None,
        f"tokens_per_frame is {tokens}; expected rows × columns of at most "
        f"{projector.shape.grid[0]} × {projector.shape.grid[1]}",
    )
    return cells
