"""A token a patch, or fewer without a weight: patches averaged over a coarser grid."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from siglip_study.projectors.base import FeatureShape, Projector


class PatchProjector(Projector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``, N = P, or ``tokens_per_frame`` means of patches.

    Position: each token is one patch of one frame, and the tokens keep frame-major, row-major
    order; the language model's own positions tell them apart. None is added here.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, tokens_per_frame: int | None) -> None:
        super().__init__(shape, llm_dim)
        self.cells = cells_of(self, tokens_per_frame)

    def project(self, features: Tensor) -> Tensor:
        if self.cells is not None:
            features = average_patches(features, self.shape.grid, self.cells)
        return self.project_patches(features).flatten(1, 2)  # [B, F, N, L] → [B, F·N, L]

    @abstractmethod
    def project_patches(self, features: Tensor) -> Tensor:
        """``[B, F, N, V]`` → ``[B, F, N, L]``, patch by patch."""

    def tokens_per_video(self, frames: int) -> int:
        """F · N."""
        rows, columns = self.cells or self.shape.grid
        return frames * rows * columns


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
    """``[B, F, P, V]`` → ``[B, F, N, V]``, N = rows · columns of ``cells``.

    Each cell is the mean of its patches.
    """
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
    rows, columns = projector.shape.grid
    cells = token_grid(tokens, projector.shape.grid)
    projector.require(
        cells is not None,
        f"tokens_per_frame is {tokens}; expected rows × columns of at most {rows} × {columns}",
    )
    return cells
