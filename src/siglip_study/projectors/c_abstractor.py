"""C-Abstractor of Honeybee (Cha et al. 2024, "Honeybee: Locality-enhanced Projector for
Multimodal LLM", arXiv:2312.06742), applied to each frame."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._pooling import cells_of
from siglip_study.projectors._regstage import reg_stage
from siglip_study.projectors.base import Projector, learned_embedding
from siglip_study.projectors.registry import register


@register("c_abstractor")
class CAbstractor(Projector):
    """``[B, F, P, V]`` → ``[B, F·S², L]``, frame-major.

    Per frame: add a position embedding ``[P, V]``; ResNet stage V→H on the grid; adaptive average
    pool to S×S; stage H→H; ``Linear(H, L)``, SiLU, ``Linear(L, L)``. A grid that is not square is
    pooled to S×S all the same, so that its cells are not square either.

    Position: patches have a learned position embedding and the convolutions' locality; frames have
    the order of the tokens alone.

    Args:
        vision_dim: V.
        llm_dim: L.
        grid: rows and columns of patches.
        frames: F; any number of frames is taken.
        pool: S, side of the pooled grid; at most the shorter side of the grid.
        tokens_per_frame: in place of S²; pooled to the most square grid of so many cells.
        depth: blocks in each of the two stages.
        hidden: H, channels of the stages.
    """

    embeddings = ("positions",)

    def __init__(
        self,
        vision_dim: int,
        llm_dim: int,
        grid: tuple[int, int],
        frames: int,
        *,
        pool: int = 12,
        tokens_per_frame: int | None = None,
        depth: int = 3,
        hidden: int = 1024,
    ) -> None:
        super().__init__(vision_dim, llm_dim, grid, frames)
        self.require(
            tokens_per_frame is not None or 1 <= pool <= min(grid),
            f"pool is {pool}; expected 1 to {min(grid)} on a grid of {grid}",
        )
        self.require(
            min(depth, hidden) >= 1, f"depth {depth}, hidden {hidden}; expected each at least 1"
        )
        self.cells = cells_of(self, tokens_per_frame) or (pool, pool)
        self.positions = learned_embedding(self.patches, vision_dim)
        self.net = nn.Sequential(
            reg_stage(depth, vision_dim, hidden),
            nn.AdaptiveAvgPool2d(self.cells),
            reg_stage(depth, hidden, hidden),
        )
        self.readout = nn.Sequential(
            nn.Linear(hidden, llm_dim), nn.SiLU(), nn.Linear(llm_dim, llm_dim)
        )

    def project(self, features: Tensor) -> Tensor:
        batch = len(features)
        images = (features + self.positions).flatten(0, 1)  # [B·F, P, V]
        images = images.transpose(1, 2).unflatten(2, self.grid)  # [B·F, V, rows, columns]
        pooled = self.net(images).flatten(2).transpose(1, 2)  # [B·F, S², H]
        return self.readout(pooled).reshape(batch, -1, self.llm_dim)  # [B, F·S², L]

    def tokens_per_video(self, frames: int, patches: int) -> int:
        """F · S², or F · ``tokens_per_frame``."""
        return frames * self.cells[0] * self.cells[1]
