"""A learned constant in the video's place: the control that is trained blind."""

from __future__ import annotations

from torch import Tensor

from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding
from siglip_study.projectors.registry import register


@register("constant_prefix")
class ConstantPrefix(Projector):
    """``[B, F, P, V]`` → ``[B, T, L]``, the same T learned tokens for every clip.

    This is prompt tuning (Lester et al. 2021, arXiv:2104.08691). Whatever a model trained with it
    achieves, the language alone achieves: the bar that shows what a projector's vision adds.

    Position: the video is not looked at, so there is none to keep.

    Args:
        tokens: T, tokens of a clip. Give it T of the projector it is compared with.
    """

    embeddings = ("prefix",)
    per_frame = False

    def __init__(self, shape: FeatureShape, llm_dim: int, *, tokens: int = 64) -> None:
        super().__init__(shape, llm_dim)
        self.require(tokens >= 1, f"tokens is {tokens}; expected at least 1")
        self.prefix = learned_embedding(tokens, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        return self.prefix.expand(len(features), -1, -1)

    def tokens_per_video(self, frames: int) -> int:
        """T, whatever the length of the clip."""
        return len(self.prefix)
