"""Frames → a vision model's input, by the settings of its own image processor.

Resizing and cropping (``prepare``) run in the decoding workers on uint8, so that frames travel and
wait at the model's size; the arithmetic (``normalise``) runs on the device, for a whole batch. The
steps and roundings are those of transformers' PIL processors, which need one call an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_study.base.errors import StudyError, first_line
from siglip_study.models.hub import architecture_source, image_processor, read_model_json

# transformers' processor classes → what each assumes for settings that a file leaves out.
_CLIP: dict[str, Any] = {
    "resample": 3,
    "size": {"shortest_edge": 224},
    "crop_size": 224,
    "do_center_crop": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_SIGLIP: dict[str, Any] = {
    "resample": 3,
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_IMAGENET: dict[str, Any] = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": _CLIP,
    "BitImageProcessor": _CLIP,
    "SiglipImageProcessor": _SIGLIP,
    "ViTImageProcessor": _SIGLIP | {"resample": 2},
    "BeitImageProcessor": _SIGLIP | {"crop_size": 224},
    "DeiTImageProcessor": _SIGLIP
    | {"size": {"height": 256, "width": 256}, "crop_size": 224, "do_center_crop": True},
    # It resizes what is rescaled already: the same but for rounding to whole grey levels.
    "DINOv3ViTImageProcessor": _SIGLIP | {"resample": 2} | _IMAGENET,
}


@dataclass(frozen=True)
class FrameTransform:
    """Resize, crop, rescale and normalise as one model wants it."""

    #: (height, width) to stretch to, or the length of the shorter side; None: no resizing
    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) after :meth:`prepare`."""
        size = self.crop or self.resize
        assert isinstance(size, tuple)  # checked by transform_from
        return size

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 RGB ``[F, H, W, 3]`` → resized and cropped ``[F, h, w, 3]``."""
        from PIL import Image

        height, width = self._resized(frames.shape[1], frames.shape[2])
        if (height, width) != frames.shape[1:3]:
            filter_ = Image.Resampling(self.resample)
            frames = np.stack(
                [np.asarray(Image.fromarray(f).resize((width, height), filter_)) for f in frames]
            )
        rows, columns = self.size
        top, left = (height - rows) // 2, (width - columns) // 2
        return np.ascontiguousarray(frames[:, top : top + rows, left : left + columns])

    def normalise(self, frames: Tensor) -> Tensor:
        """uint8 ``[N, h, w, 3]`` on any device → fp32 ``[N, 3, h, w]`` there."""
        mean, std = (_on_device(numbers, frames.device) for numbers in (self.mean, self.std))
        return ((frames.float() * self.scale - mean) / std).permute(0, 3, 1, 2).contiguous()

    def inputs(self, frames: Tensor) -> dict[str, Tensor]:
        """uint8 ``[N, h, w, 3]`` → what the model takes, on the same device."""
        return {"pixel_values": self.normalise(frames)}

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.resize is None:
            return height, width
        if isinstance(self.resize, tuple):
            return self.resize
        # The longer side is cut to an integer, not rounded, as the processors do.
        if height <= width:
            return self.resize, int(self.resize * width / height)
        return int(self.resize * height / width), self.resize


@lru_cache(maxsize=16)
def _on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    # Once a device: such a copy waits for all work on the GPU.
    with torch.inference_mode(False):
        return torch.tensor(numbers, device=device)


def load_transform(
    model: str, revision: str | None, key: str, weights: str = "pretrained"
) -> FrameTransform:
    """The transform of a model's image processor; with "random" weights packaged settings will do.

    Raises:
        StudyError: the model has no image settings or ones that are not supported.
    """
    return transform_from(image_settings(model, revision, key, weights), f"{key} '{model}'")


def image_settings(model: str, revision: str | None, key: str, weights: str) -> dict[str, Any]:
    """The JSON of a model's image processor; arguments as of :func:`load_transform`."""
    names = ("preprocessor_config.json", "processor_config.json")
    packaged = image_processor(model) if weights == "random" else None
    if packaged is not None and architecture_source(model, revision) == "packaged":
        return packaged
    settings = read_model_json(model, revision, names, key)
    found = settings.get("image_processor", settings)
    if not isinstance(found, dict):
        told = f"'image_processor' is a {type(found).__name__}"
        raise StudyError(f"{key} '{model}': {told}; expected a mapping of settings.")
    return found


def transform_from(settings: dict[str, Any], source: str) -> FrameTransform:
    """A transform from the JSON of an image processor that resizes and crops to one size.

    Raises:
        StudyError: another processor, or a crop larger than the resized frame.
    """
    name = str(settings.get("image_processor_type") or settings.get("feature_extractor_type", ""))
    kind = name.removesuffix("Fast").removesuffix("Pil")
    kind = kind.replace("FeatureExtractor", "ImageProcessor")  # their name until 2022
    if kind not in _DEFAULTS:
        known = ", ".join(_DEFAULTS)
        raise StudyError(f"{source}: its image processor is '{name}'; expected one of {known}.")
    given = {**_DEFAULTS[kind], **{k: v for k, v in settings.items() if v is not None}}
    try:
        return _transform(kind, given, source)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise StudyError(
            f"{source}: its image processor's settings cannot be used ({type(error).__name__}: "
            f"{first_line(error)}); expected those of a {kind}."
        ) from None


def _transform(kind: str, given: dict[str, Any], source: str) -> FrameTransform:
    if given.get("do_pad"):
        raise StudyError(f"{source}: its image processor pads frames; expected resizing alone.")
    resize = _side(given["size"]) if given.get("do_resize", True) else None
    if isinstance(given["size"], int) and "height" in _DEFAULTS[kind]["size"]:
        resize = (given["size"], given["size"])  # to these a bare number is a square
    crop = _side(given["crop_size"]) if given["do_center_crop"] else None
    crop = (crop, crop) if isinstance(crop, int) else crop
    reach = (resize, resize) if isinstance(resize, int) else resize
    if reach is None or (crop is None and isinstance(resize, int)):
        raise StudyError(f"{source}: its image processor gives no fixed size; expected one.")
    if crop is not None and (crop[0] > reach[0] or crop[1] > reach[1]):
        raise StudyError(f"{source}: crop {crop} exceeds the resized frame {reach}.")
    normal = given.get("do_normalize", True)
    made = FrameTransform(
        resize=resize,
        crop=crop,
        resample=int(given["resample"]),
        scale=float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0,
        mean=tuple(map(float, given["image_mean"])) if normal else (0.0, 0.0, 0.0),
        std=tuple(map(float, given["image_std"])) if normal else (1.0, 1.0, 1.0),
    )
    filters, sides = range(6), range(1, 10_000)  # those of PIL; larger pictures fill the memory
    if made.resample not in filters or not all(side in sides for side in (*reach, *made.size)):
        raise ValueError(f"size {made.size}, resample {made.resample}")
    whole = all(map(math.isfinite, (*made.mean, *made.std)))
    if not len(made.mean) == len(made.std) == 3 or not whole or not min(made.std) > 0:
        raise ValueError(f"mean {made.mean}, std {made.std}")
    if not 0 < made.scale < math.inf:
        raise ValueError(f"rescale_factor {made.scale}")
    return made


def _side(size: Any) -> tuple[int, int] | int:
    """A size in any of its spellings; a bare number is the shorter side."""
    if isinstance(size, dict):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        return int(size["height"]), int(size["width"])
    return int(size)


# ---- Frames → a NaFlex model's input: patches in the shape of each picture, up to a number.
#
# Pictures keep their proportions, so that clips of different shapes have different grids. What
# waits and travels has one shape for all: rows of patches, filled up, under a row that holds the
# grid.

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

    def inputs(self, packed: Tensor) -> dict[str, Tensor]:
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
            "pixel_values": ((pixels - mean) / std).flatten(2),
            "pixel_attention_mask": (places < grid.prod(dim=1, keepdim=True)).int(),
            "spatial_shapes": grid,
        }
