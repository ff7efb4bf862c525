"""Frames on the training device: one store, cheap disturbances, the processors' normalisation."""

from __future__ import annotations

import torch

#: CLIP's own channel statistics, kept by the tower's processor.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def normalise(
    frames: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """uint8 [..., H, W, 3] to float [N, 3, H, W], as an image processor does."""
    flat = frames.flatten(0, -4).permute(0, 3, 1, 2).float() / 255
    shape = (1, 3, 1, 1)
    return (flat - flat.new_tensor(mean).view(shape)) / flat.new_tensor(std).view(shape)


def disturb(pixels: torch.Tensor) -> torch.Tensor:
    """What a video codec and a camera do: soft blur, noise, small changes of light and colour."""
    n, device = len(pixels), pixels.device
    soft = torch.nn.functional.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    mix = 0.5 * torch.rand(n, 1, 1, 1, device=device)
    pixels = pixels + mix * (soft - pixels)
    gain = 1 + 0.06 * torch.randn(n, 1, 1, 1, device=device)
    tint = 0.06 * torch.randn(n, 3, 1, 1, device=device)
    noise = 0.12 * torch.rand(n, 1, 1, 1, device=device) * torch.randn_like(pixels)
    return pixels * gain + tint + noise
