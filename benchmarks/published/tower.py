"""The published feature extraction: an fp32 tower, one clip a call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode_one(tower: Any, pixels: Tensor) -> Tensor:
    """Frames of a clip ``[F, 3, h, w]`` on the CPU → patch features ``[F, P, V]`` there.

    The last hidden state; the class token goes.
    """
    device = next(tower.parameters()).device
    output = tower(pixel_values=pixels.to(device))
    features: Tensor = output.last_hidden_state[:, 1:].cpu()
    return features
