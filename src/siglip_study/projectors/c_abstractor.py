"""C-Abstractor of Honeybee (Cha et al. 2024, "Honeybee: Locality-enhanced Projector for
Multimodal LLM", arXiv:2312.06742), applied to each frame.

Its stages are RegNet's at stride 1 (Radosavovic et al. 2020, "Designing Network Design Spaces",
arXiv:2003.13678), the Y block: 1×1 convolution, 3×3 group convolution, squeeze-and-excitation (Hu
et al. 2018, arXiv:1709.01507), 1×1 convolution. Honeybee takes timm's defaults for the rest: group
width 1 (so the 3×3 is depthwise), bottleneck ratio 1, squeeze ratio 1/4 of the block's *input*
channels; and SiLU and channel LayerNorm in place of ReLU and BatchNorm.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from siglip_study.projectors._pooling import cells_of
from siglip_study.projectors.base import FeatureShape, Projector, learned_embedding
from siglip_study.projectors.registry import register

_SQUEEZE_RATIO = 0.25


class _ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``[N, C, H, W]``, place by place."""

    def forward(self, input: Tensor) -> Tensor:
        """``[N, C, H, W]`` → ``[N, C, H, W]``."""
        last = input.permute(0, 2, 3, 1)
        return super().forward(last).permute(0, 3, 1, 2)


class _SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the mean of all channels over the image."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, C, H, W]`` → ``[N, C, H, W]``."""
        gate = self.squeeze(images.mean((2, 3), keepdim=True))
        return images * self.excite(functional.silu(gate)).sigmoid()


def _conv_norm(in_channels: int, channels: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    # The norm's bias makes one in the convolution redundant.
    conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=_ChannelLayerNorm(channels)))


class RegBlock(nn.Module):
    """SiLU(shortcut(x) + body(x)); the shortcut is a 1×1 convolution where the widths differ."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        squeezed = max(1, round(in_channels * _SQUEEZE_RATIO))
        self.body = nn.Sequential(
            OrderedDict(
                conv1=_conv_norm(in_channels, channels),
                act1=nn.SiLU(),
                conv2=_conv_norm(channels, channels, kernel=3, groups=channels),
                act2=nn.SiLU(),
                squeeze_excite=_SqueezeExcite(channels, squeezed),
                conv3=_conv_norm(channels, channels),
            )
        )
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else _conv_norm(in_channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, C_in, H, W]`` → ``[N, C, H, W]``."""
        return functional.silu(self.shortcut(images) + self.body(images))


def _reg_stage(depth: int, in_channels: int, channels: int) -> nn.Sequential:
    """``depth`` blocks: ``[N, C_in, H, W]`` → ``[N, C, H, W]``."""
    return nn.Sequential(
        *(RegBlock(in_channels if i == 0 else channels, channels) for i in range(depth))
    )


@register("c_abstractor")
class CAbstractor(Projector):
    """``[B, F, P, V]`` → ``[B, F·S², L]``, frame-major.

    Per frame: add a position embedding ``[P, V]``; ResNet stage V→H on the grid; adaptive average
    pool to S×S; stage H→H; ``Linear(H, L)``, SiLU, ``Linear(L, L)``. A grid that is not square is
    pooled to S×S all the same, so that its cells are not square either.

    Position: patches have a learned position embedding and the convolutions' locality; frames have
    the order of the tokens alone.

    Args:
        pool: S, side of the pooled grid; at most the shorter side of the grid.
        tokens_per_frame: in place of S²; pooled to the most square grid of so many cells.
        depth: blocks in each of the two stages.
        hidden: H, channels of the stages.
    """

    embeddings = ("positions",)

    def __init__(
        self,
        shape: FeatureShape,
        llm_dim: int,
        *,
        pool: int = 12,
        tokens_per_frame: int | None = None,
        depth: int = 3,
        hidden: int = 1024,
    ) -> None:
        super().__init__(shape, llm_dim)
        self.require(
            tokens_per_frame is not None or 1 <= pool <= min(shape.grid),
            f"pool is {pool}; expected 1 to {min(shape.grid)} on a grid of {shape.grid}",
        )
        self.require_positive(depth=depth, hidden=hidden)
        self.cells = cells_of(self, tokens_per_frame) or (pool, pool)
        self.positions = learned_embedding(shape.patches, shape.dim)
        self.net = nn.Sequential(
            _reg_stage(depth, shape.dim, hidden),
            nn.AdaptiveAvgPool2d(self.cells),
            _reg_stage(depth, hidden, hidden),
        )
        self.readout = nn.Sequential(
            nn.Linear(hidden, llm_dim), nn.SiLU(), nn.Linear(llm_dim, llm_dim)
        )

    def project(self, features: Tensor) -> Tensor:
        batch = len(features)
        images = (features + self.positions).flatten(0, 1)  # [B·F, P, V]
        images = images.transpose(1, 2).unflatten(2, self.shape.grid)  # [B·F, V, rows, columns]
        pooled = self.net(images).flatten(2).transpose(1, 2)  # [B·F, S², H]
        return self.readout(pooled).reshape(batch, -1, self.llm_dim)  # [B, F·S², L]

    def tokens_per_video(self, frames: int) -> int:
        """F · S², or F · ``tokens_per_frame``."""
        return frames * self.cells[0] * self.cells[1]
