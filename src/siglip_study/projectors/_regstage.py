"""A RegNet stage at stride 1, as Honeybee configures it.

Source: Radosavovic et al. 2020, "Designing Network Design Spaces" (arXiv:2003.13678), the Y block:
1×1 convolution, 3×3 group convolution, squeeze-and-excitation (Hu et al. 2018), 1×1 convolution.
Honeybee takes timm's defaults for the rest: group width 1 (so the 3×3 is depthwise), bottleneck
ratio 1, squeeze ratio 1/4 of the block's *input* channels; and SiLU and channel LayerNorm in place
of ReLU and BatchNorm.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

SQUEEZE_RATIO = 0.25


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``[N, C, H, W]``, place by place."""

    def forward(self, input: Tensor) -> Tensor:
        """``[N, C, H, W]`` → ``[N, C, H, W]``."""
        last = input.permute(0, 2, 3, 1)
        return super().forward(last).permute(0, 3, 1, 2)


class SqueezeExcite(nn.Module):
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
    return nn.Sequential(OrderedDict(conv=conv, norm=ChannelLayerNorm(channels)))


class RegBlock(nn.Module):
    """SiLU(shortcut(x) + body(x)); the shortcut is a 1×1 convolution where the widths differ."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        squeezed = max(1, round(in_channels * SQUEEZE_RATIO))
        self.body = nn.Sequential(
            OrderedDict(
                conv1=_conv_norm(in_channels, channels),
                act1=nn.SiLU(),
                conv2=_conv_norm(channels, channels, kernel=3, groups=channels),
                act2=nn.SiLU(),
                squeeze_excite=SqueezeExcite(channels, squeezed),
                conv3=_conv_norm(channels, channels),
            )
        )
        same = in_channels == channels
        self.shortcut = nn.Identity() if same else _conv_norm(in_channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """``[N, C_in, H, W]`` → ``[N, C, H, W]``."""
        return functional.silu(self.shortcut(images) + self.body(images))


def reg_stage(depth: int, in_channels: int, channels: int) -> nn.Sequential:
    """``depth`` blocks: ``[N, C_in, H, W]`` → ``[N, C, H, W]``."""
    return nn.Sequential(
        *(RegBlock(in_channels if i == 0 else channels, channels) for i in range(depth))
    )
