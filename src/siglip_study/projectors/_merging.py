"""Fewer tokens without attention: squares of neighbouring patches become one token."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from siglip_study.projectors.base import FeatureShape, Projector


class MergingProjector(Projector):
    """``[B, F, P, V]`` → ``[B, F·N, L]``, N = ⌈rows/side⌉·⌈columns/side⌉, frame- and row-major.

    Where a side of the grid is no multiple of ``side``, its last row or column is repeated: every
    patch is in one square, and published grids, which are multiples, are as published.

    Position: none is added; the tokens keep the order of frames, rows and columns, and within a
    square that is concatenated each patch has weights of its own.

    Args:
        side: of the square of patches that becomes one token; at most the longer side of the grid.
    """

    def __init__(self, shape: FeatureShape, llm_dim: int, side: int) -> None:
        super().__init__(shape, llm_dim)
        self.require(
            1 <= side <= max(shape.grid),
            f"side is {side}; expected 1 to {max(shape.grid)} on a grid of {shape.grid}",
        )
        self.side = side
        rows, columns = shape.grid
        self.cells = -(-rows // side), -(-columns // side)

    def squares(self, features: Tensor) -> Tensor:
        """``[B, F, P, C]`` → ``[B, F, N, side², C]``, the patches of a square row by row."""
        images = features.unflatten(2, self.shape.grid)
        for axis, (cells, size) in enumerate(zip(self.cells, self.shape.grid, strict=True), 2):
            if cells * self.side != size:
                places = torch.arange(cells * self.side, device=features.device)
                images = images.index_select(axis, places.clamp(max=size - 1))
        rows, columns = self.cells
        images = images.unflatten(3, (columns, self.side)).unflatten(2, (rows, self.side))
        return images.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def project(self, features: Tensor) -> Tensor:
        return self.project_frames(features).flatten(1, 2)

    @abstractmethod
    def project_frames(self, features: Tensor) -> Tensor:
        """``[B, F, P, V]`` → ``[B, F, N, L]``."""

    def tokens_per_video(self, frames: int) -> int:
        """F · ⌈rows/side⌉ · ⌈columns/side⌉."""
        return frames * self.cells[0] * self.cells[1]
