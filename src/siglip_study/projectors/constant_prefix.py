"""A learned constant in the video's place: the control that is trained blind."""

from __future__ import annotations

from torch import Tensor

from siglip_study.projectors.base import Projector, learned_embedding
from siglip_study.projectors.registry import register


@register("constant_prefix")
class ConstantPrefix(Projector):
    """``[B, F, P, V]`` → ``[B, T, L]``, the same T learned tokens for every clip.

    This is prompt tuning (Lester et al. 2021, arXiv:2104.08691). Whatever a model trained with it
    achieves, the language alone achieves: the bar that shows what a projector's vision adds.

    Position: the video is not looked at, so there is none to keep.

    Args:
        vision_dim: V; only used to check the input.
        llm_dim: L.
        grid: rows and columns of patches; only used to check the input.
        frames: F; any number of frames is taken.
        tokens: T, tokens of a clip. Give it T of the projector it is compared with.
    """

    embeddings = ("prefix",)
    per_frame = False
    sees_video = False

    def __init__(
        self,
        vision_dim: int,
        llm_dim: int,
        grid: tuple[int, int],
        frames: int,
        *,
        tokens: int = 64,
    ) -> None:
        super().__init__(vision_dim, llm_dim, grid, frames)
        self.require(tokens >= 1, f"tokens is {tokens}; expected at least 1")
        self.prefix = learned_embedding(tokens, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        return self.prefix.expand(len(features), -1, -1)

    def tokens_per_video(self, frames: int, patches: int) -> int:
        """T, whatever the length of the clip."""
        return len(self.prefix)
