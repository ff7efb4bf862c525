"""Perceiver resampler of Flamingo (Alayrac et al. 2022, arXiv:2204.14198), in OpenFlamingo's form
(Awadalla et al. 2023, arXiv:2308.01390)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding
from siglip_study.projectors.registry import register

FFN_RATIO = 4


class _ResamplerAttention(nn.Module):
    """Pre-norm attention of the latents to the patches and to themselves, without biases."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.context_norm = nn.LayerNorm(width)
        self.latent_norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width, bias=False)

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[N, Q, D]`` latents and ``[N, K, D]`` context → ``[N, Q, D]``."""
        queries, keys, values = self._queries_keys_values(latents, context)
        attended = functional.scaled_dot_product_attention(queries, keys, values)
        return self.to_out(attended.transpose(1, 2).flatten(2))

    def attention_weights(self, latents: Tensor, context: Tensor) -> Tensor:
        """Weights that ``forward`` attends with, ``[N, heads, Q, K+Q]``: patches, then latents."""
        queries, keys, _ = self._queries_keys_values(latents, context)
        scores = queries @ keys.transpose(-1, -2) / queries.shape[-1] ** 0.5
        return scores.float().softmax(-1)

    def _queries_keys_values(self, latents: Tensor, context: Tensor) -> tuple[Tensor, ...]:
        """``[N, heads, Q, head_dim]``, then twice ``[N, heads, K+Q, head_dim]``."""
        latents = self.latent_norm(latents)
        both = torch.cat([self.context_norm(context), latents], dim=1)  # [N, K+Q, D]
        parts = (self.to_q(latents), *self.to_kv(both).chunk(2, dim=-1))
        return tuple(self._split(part) for part in parts)

    def _split(self, x: Tensor) -> Tensor:
        """``[N, K, heads·head_dim]`` → ``[N, heads, K, head_dim]``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    """Attention and FFN, each with its residual."""

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention = _ResamplerAttention(width, heads, head_dim)
        self.ffn = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, FFN_RATIO * width, bias=False),
            nn.GELU(),
            nn.Linear(FFN_RATIO * width, width, bias=False),
        )

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """``[N, Q, D]`` latents and ``[N, K, D]`` context → ``[N, Q, D]``."""
        latents = latents + self.attention(latents, context)
        return latents + self.ffn(latents)


@register("perceiver")
class Perceiver(Projector):
    """``[B, F, P, V]`` → ``[B, F·Q, L]`` per frame, or ``[B, Q, L]`` over the whole video.

    Q latents attend ``depth`` times to the patches (and to themselves); final norm;
    ``Linear(D, L)``. D is V unless ``width`` says otherwise, when ``Linear(V, D)`` comes first.

    Position: over the whole video each frame has a learned embedding; per frame the tokens'
    frame-major order tells frames apart. Within a frame there is none, as in Flamingo: the place
    of a patch survives only as far as the vision encoder wrote it into the features.

    Args:
        latents: Q, tokens of a frame (or of the video).
        depth: number of layers.
        heads: attention heads.
        head_dim: width of a head.
        per_frame: resample each frame by itself, or all frames together: with one embedding a frame
            then, so that a clip may have at most as many frames as the shape says.
        width: D, width of the resampler; None is V.
    """

    embeddings = ("latents", "frame_embeddings")

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        latents: int = 64,
        depth: int = 6,
        heads: int = 8,
        head_dim: int = 64,
        per_frame: bool = True,
        width: int | None = None,
    ) -> None:
        super().__init__(shape, llm_dim)
        width = shape.dim if width is None else width
        self.require_positive(
            latents=latents, depth=depth, heads=heads, head_dim=head_dim, width=width
        )
        self.per_frame = per_frame
        same = width == shape.dim
        self.proj_in = nn.Identity() if same else nn.Linear(shape.dim, width)
        # OpenFlamingo draws both from N(0, 1): they meet features behind a LayerNorm.
        self.latents = learned_embedding(latents, width, std=1.0)
        self.frame_embeddings: nn.Parameter | None = (
            None if per_frame else learned_embedding(shape.frames, width, std=1.0)
        )
        self.layers = nn.ModuleList(_Layer(width, heads, head_dim) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        batch, frames = features.shape[:2]
        context = self.proj_in(features)  # [B, F, P, D]
        if self.frame_embeddings is None:
            context = context.flatten(0, 1)  # [B·F, P, D]
        else:
            self.require(
                frames <= self.shape.frames,
                f"a clip has {frames} frames; expected {self.shape.frames} at most",
            )
            context = (context + self.frame_embeddings[:frames, None]).flatten(1, 2)  # [B, F·P, D]
        latents = self.latents.expand(len(context), -1, -1)
        for layer in self.layers:
            latents = layer(latents, context)
        return self.proj(self.norm(latents)).reshape(batch, -1, self.llm_dim)

    def tokens_per_video(self, frames: int) -> int:
        """F · Q per frame, Q over the whole video."""
        return frames * len(self.latents) if self.per_frame else len(self.latents)
