"""Q-Former of BLIP-2 (Li et al. 2023, arXiv:2301.12597): a BERT over learned queries, every second
layer of which reads the video."""

from __future__ import annotations

from torch import Tensor, nn

from siglip_study.projectors._attention import cross_attend
from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding
from siglip_study.projectors.registry import register

_EPSILON = 1e-12  # BERT's
_FFN_RATIO = 4


class _Layer(nn.Module):
    """Self-attention, cross-attention if it ``reads``, FFN: each with residual and post-norm."""

    def __init__(self, hidden: int, heads: int, width: int, reads: bool) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.self_norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.reads = reads
        if reads:
            self.cross_attention = nn.MultiheadAttention(
                hidden, heads, kdim=width, vdim=width, batch_first=True
            )
            self.cross_norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.ffn = nn.Sequential(
            nn.Linear(hidden, _FFN_RATIO * hidden),
            nn.GELU(),
            nn.Linear(_FFN_RATIO * hidden, hidden),
        )
        self.ffn_norm = nn.LayerNorm(hidden, eps=_EPSILON)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """``[N, Q, H]`` tokens and ``[N, K, V]`` patches → ``[N, Q, H]``."""
        tokens = self.self_norm(tokens + cross_attend(self.self_attention, tokens, tokens))
        if self.reads:
            tokens = self.cross_norm(tokens + cross_attend(self.cross_attention, tokens, context))
        return self.ffn_norm(tokens + self.ffn(tokens))


@register("qformer")
class QFormer(Projector):
    """``[B, F, P, V]`` → ``[B, F·Q, L]``, or ``[B, Q, L]`` from all frames together.

    Q queries of width H, normed; ``depth`` layers, the first and every second after it reading the
    patches; ``Linear(H, L)``. Trained from scratch here; BLIP-2 starts from BERT and pretrains it.

    Position: none. The patches of a frame are a set, and those of all frames where ``per_frame`` is
    off: then the order of frames is lost.

    Args:
        queries: Q, tokens of a frame, or of a clip.
        depth: number of layers.
        hidden: H.
        heads: attention heads; H must be divisible by it.
        per_frame: whether each frame is read by itself, as images are in BLIP-2.
    """

    embeddings = ("queries",)

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        queries: int = 32,
        depth: int = 12,
        hidden: int = 768,
        heads: int = 12,
        per_frame: bool = True,
    ) -> None:
        super().__init__(shape, llm_dim)
        self.require_positive(queries=queries, depth=depth, hidden=hidden, heads=heads)
        self.require(
            hidden % heads == 0, f"heads is {heads}; expected a divisor of hidden {hidden}"
        )
        self.per_frame = per_frame
        self.queries = learned_embedding(queries, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.layers = nn.ModuleList(
            _Layer(hidden, heads, shape.dim, reads=i % 2 == 0) for i in range(depth)
        )
        self.proj = nn.Linear(hidden, llm_dim)

    def project(self, features: Tensor) -> Tensor:
        context = features.flatten(0, 1) if self.per_frame else features.flatten(1, 2)
        tokens = self.norm(self.queries).expand(len(context), -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, context)
        return self.proj(tokens).reshape(len(features), -1, self.llm_dim)

    def tokens_per_video(self, frames: int) -> int:
        """F · Q, or Q."""
        return len(self.queries) * (frames if self.per_frame else 1)
