"""Frozen models of frames: what they share, and the towers that give patch features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siglip_study.base.errors import StudyError
from siglip_study.config.training import VisionConfig
from siglip_study.features.images import FrameTransform, PatchTransform, load_transform
from siglip_study.models.devices import pick_device
from siglip_study.models.families import VisionFamily, patch_grid, vision_family
from siglip_study.models.hub import LAID_OUT, load_weights, settings_of

Weights = Literal["pretrained", "random"]


class FrameEncoder(ABC):
    """Encodes frames as its model's own image processor gives them."""

    device: torch.device
    transform: FrameTransform | PatchTransform
    #: what decides its numbers, of JSON types: model, revision, weights, image_size (h, w) …
    facts: dict[str, Any]

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 RGB ``[F, H, W, 3]`` as the model wants it, of one shape; safe in threads."""
        return self.transform.prepare(frames)

    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 RGB ``[B, F, H, W, 3]`` of any size → as :meth:`encode_on_device`, on the CPU."""
        return self.encode_prepared(np.stack([self.prepare(np.asarray(clip)) for clip in frames]))

    def encode_prepared(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """As :meth:`encode`, of frames that went through :meth:`prepare`."""
        return self.encode_on_device(torch.as_tensor(frames).to(self.device)).cpu()

    @abstractmethod
    def encode_on_device(self, frames: Tensor) -> Tensor:
        """Prepared uint8 ``[B, F, …]`` → ``[B, F, …]``, both on the device; never waits for it."""


def load_frozen(
    loader: Any,
    settings: Mapping[str, Any],
    model: str,
    revision: str | None,
    key: str,
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device,
    **options: Any,
) -> Any:
    """A model of class ``loader``; with random weights from its ``settings``, by a fixed seed.

    ``options``: of its constructor. On ``meta`` no weight is read, and all are accounted for.
    """
    if device.type == "meta":
        options |= LAID_OUT
    if weights == "pretrained":
        return load_weights(loader, model, revision, key, dtype, **options).to(device)
    config = loader.config_class.from_dict(settings)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(0)
        return loader(config, **options).to(dtype).eval().requires_grad_(False)


class VisionEncoder(FrameEncoder):
    """Patch features ``[B, F, P, V]`` of a hidden layer of a frozen tower, or of two side by side.

    A layer is counted as in transformers' ``hidden_states``: −1 is the output of the last block,
    −2 of the one before it, always before any final norm. Blocks above the last are not run. V is
    the tower's width times the number of layers.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        layer: int | tuple[int, ...] = -2,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        weights: Weights = "pretrained",
        key: str = "vision.model",
    ) -> None:
        """Load a tower.

        Args:
            model: local folder or hub id.
            revision: pinned hub revision.
            layer: index into the hidden states, or several; 0, the embeddings, is not offered.
            device: where it runs; "auto": a GPU if there is one.
            dtype: None: bf16 on a GPU, fp32 on the CPU.
            weights: "random" builds from the model's config with a fixed seed.
            key: the config key that errors name.

        Raises:
            StudyError: not at hand, not a supported tower, or no such layer.
        """
        import transformers

        self.device = pick_device(device)
        self.dtype = dtype or (torch.bfloat16 if self.device.type == "cuda" else torch.float32)
        source = f"{key} '{model}'"
        raw = settings_of(model, revision, key, random=weights == "random")
        family = vision_family(raw, source)
        self.transform: FrameTransform = load_transform(model, revision, key, weights)
        self._model = load_frozen(
            getattr(transformers, family.model),
            raw.get("vision_config", raw),
            *(model, revision, key, weights, self.dtype, self.device),
            **family.options,
        )
        config, size = self._model.config, self.transform.size
        check_size(family, config, size, source)
        self._prefix = family.prefix_tokens(config)
        layers = (layer,) if isinstance(layer, int) else layer
        self._outputs: dict[int, Tensor] = {}
        self._depths = self._read(layers, source)
        rows, columns = patch_grid(config, size)
        self.facts = {
            "model": model,
            "revision": revision,
            "weights": weights,
            "layer": layer if isinstance(layer, int) else list(layer),
            "image_size": list(size),
            "patches": rows * columns,
            "dim": len(layers) * int(config.hidden_size),
            "grid": [rows, columns],
        }

    @classmethod
    def from_config(cls, config: VisionConfig, device: str | torch.device) -> VisionEncoder:
        """The encoder of a study; see the constructor."""
        return cls(config.model, config.revision, config.layer, device, weights=config.weights)

    @torch.inference_mode()
    def encode_on_device(self, frames: Tensor) -> Tensor:
        """Prepared uint8 ``[B, F, h, w, 3]`` → bf16 ``[B, F, P, V]``, both on the device."""
        pixels = self.transform.normalise(frames.flatten(0, 1)).to(self.dtype)
        self._model(pixel_values=pixels)
        read = [self._outputs[depth][:, self._prefix :] for depth in self._depths]
        self._outputs.clear()
        patches = torch.cat(read, dim=-1) if len(read) > 1 else read[0]
        shape = (*frames.shape[:2], self.facts["patches"], self.facts["dim"])
        return patches.reshape(shape).to(torch.bfloat16).contiguous()

    def _read(self, layers: Sequence[int], source: str) -> list[int]:
        """Keep what these layers put out; their numbers from 1 on."""
        # The stack of transformer blocks, under whatever name a family and release give it.
        count = self._model.config.num_hidden_layers
        blocks: nn.ModuleList = next(
            m for m in self._model.modules() if isinstance(m, nn.ModuleList) and len(m) == count
        )
        depths = [check_layer(layer, count, source) for layer in layers]
        del blocks[max(depths) :]
        for depth in depths:
            blocks[depth - 1].register_forward_hook(partial(self._keep, depth))
        return depths

    def _keep(self, depth: int, module: nn.Module, inputs: Any, output: Any) -> None:
        self._outputs[depth] = output[0] if isinstance(output, tuple) else output


def check_layer(layer: int, count: int, source: str) -> int:
    """The number from 1 on of hidden layer ``layer`` among ``count``; StudyError: not of them."""
    depth = layer if layer >= 0 else count + 1 + layer
    if not 1 <= depth <= count:
        raise StudyError(
            f"{source} has {count} layers; vision.layer is {layer}, expected "
            f"1 to {count} or −{count} to −1."
        )
    return depth


def check_size(family: VisionFamily, config: Any, size: tuple[int, int], source: str) -> None:
    """Raise StudyError where a tower cannot read pictures of ``size`` (height, width)."""
    side = int(config.image_size)
    if not family.any_size and size != (side, side):
        raise StudyError(
            f"{source}: its image processor gives {size[0]}×{size[1]} pixels; expected "
            f"{side}×{side}, the size of the model."
        )
