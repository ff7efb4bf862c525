"""Frames → a NaFlex model's input: patches in the shape of each picture, up to a number of them.

Pictures keep their proportions, so that clips of different shapes have different grids. What waits
and travels has one shape for all: rows of patches, filled up, under a row that holds the grid.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.base.errors import StudyError

_STEPS = ("resize", "rescale", "normalize")


class PatchTransform:
    """Resize and cut (``prepare``), then rescale and normalise (``inputs``), for one NaFlex model.

    Raises:
        StudyError: the settings are not those of a SigLIP 2 image processor, or leave out a step.
    """

    def __init__(self, settings: dict[str, Any], source: str) -> None:
        from transformers.models.siglip2.image_processing_pil_siglip2 import (
            Siglip2ImageProcessorPil as Processor,
        )

        name = str(settings.get("image_processor_type", ""))
        steps = [settings.get(f"do_{step}") is not False for step in _STEPS]
        if not name.startswith("Siglip2ImageProcessor") or not all(steps):
            raise StudyError(
                f"{source}: its image processor is '{name}' with {sum(steps)} of its steps "
                f"({', '.join(_STEPS)}); expected Siglip2ImageProcessor with all of them."
            )
        self._made = Processor(**{k: v for k, v in settings.items() if v is not None})

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a square picture after resizing."""
        side = self._made.patch_size * math.isqrt(self._made.max_num_patches)
        return side, side

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 RGB ``[F, H, W, 3]`` → ``[F, 1 + N, 3p²]``: the grid, then N patches of side p."""
        cut = self._made(
            list(frames),
            do_rescale=False,
            do_normalize=False,
            input_data_format="channels_last",
            return_tensors="np",
        )
        rows, columns = map(int, cut["spatial_shapes"][0])
        head = np.zeros_like(cut["pixel_values"][:, :1], dtype=np.uint8)
        head[..., :4] = [*divmod(rows, 256), *divmod(columns, 256)]
        return np.concatenate([head, cut["pixel_values"].astype(np.uint8)], axis=1)

    def inputs(self, packed: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
        """``[M, 1 + N, 3p²]`` of :meth:`prepare` → what the model takes, on the same device."""
        high, low = packed[:, 0, :4].long().unflatten(1, (2, 2)).unbind(dim=2)
        grid = 256 * high + low
        mean, std = (
            packed.new_tensor(x, dtype=torch.float32)
            for x in (self._made.image_mean, self._made.image_std)
        )
        pixels = packed[:, 1:].float().unflatten(2, (-1, 3)) * self._made.rescale_factor
        places = torch.arange(packed.shape[1] - 1, device=packed.device)
        return {
            "pixel_values": ((pixels - mean) / std).flatten(2).to(dtype),
            "pixel_attention_mask": (places < grid.prod(dim=1, keepdim=True)).int(),
            "spatial_shapes": grid,
        }
