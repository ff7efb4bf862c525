"""Frozen vision towers that give patch features: CLIP, SigLIP / SigLIP 2, DINOv2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siglip_study.base.errors import StudyError
from siglip_study.config.training import VisionConfig
from siglip_study.features.images import load_transform
from siglip_study.models.devices import pick_device
from siglip_study.models.hub import load_weights, settings_of


@dataclass(frozen=True)
class VisionFamily:
    """A kind of tower: its class in transformers, and tokens that precede the patches."""

    model: str
    config: str
    prefix_tokens: Callable[[Any], int]


def _one(config: Any) -> int:
    return 1


_CLIP = VisionFamily("CLIPVisionModel", "CLIPVisionConfig", _one)
# Covers SigLIP 2 at a fixed resolution, whose checkpoints call themselves "siglip" as well.
_SIGLIP = VisionFamily("SiglipVisionModel", "SiglipVisionConfig", lambda config: 0)
#: model type of a config → its family
VISION_FAMILIES: dict[str, VisionFamily] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": VisionFamily("Dinov2Model", "Dinov2Config", _one),
    "dinov2_with_registers": VisionFamily(
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        lambda config: 1 + int(config.num_register_tokens),
    ),
}


class VisionEncoder:
    """Patch features ``[B, F, P, V]`` of one hidden layer of a frozen tower.

    The layer is counted as in transformers' ``hidden_states``: −1 is the output of the last block,
    −2 of the one before it, always before any final norm. Blocks above it are not run.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        layer: int = -2,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        weights: Literal["pretrained", "random"] = "pretrained",
        key: str = "vision.model",
    ) -> None:
        """Load a tower.

        Args:
            model: local folder or hub id.
            revision: pinned hub revision.
            layer: index into the hidden states; 0, the embeddings, is not offered.
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
        raw = vision_settings(model, revision, key, weights)
        family = VISION_FAMILIES.get(raw.get("model_type", ""))
        if family is None:
            raise StudyError(
                f"{key} '{model}' is of type '{raw.get('model_type')}'; expected a vision tower of "
                f"type {', '.join(VISION_FAMILIES)}."
            )
        self.transform = load_transform(model, revision, key, weights)
        loader = getattr(transformers, family.model)
        if weights == "pretrained":
            self._model = load_weights(loader, model, revision, key, self.dtype).to(self.device)
        else:
            config = getattr(transformers, family.config)(**raw.get("vision_config", raw))
            self._model = random_tower(loader, config, self.device, self.dtype)
        config = self._model.config
        _check_size(config, self.transform.size, f"{key} '{model}'")
        self._prefix = family.prefix_tokens(config)
        self._output: Tensor | None = None
        self._stop_after(layer, f"{key} '{model}'")
        side = tuple(int(n) // int(config.patch_size) for n in self.transform.size)
        self._facts = {
            "model": model,
            "revision": revision,
            "weights": weights,
            "layer": layer,
            "image_size": list(self.transform.size),
            "patches": side[0] * side[1],
            "dim": int(config.hidden_size),
            "grid": list(side),
        }

    @classmethod
    def from_config(cls, config: VisionConfig, device: str | torch.device) -> VisionEncoder:
        """The encoder of a study; see the constructor."""
        return cls(config.model, config.revision, config.layer, device, weights=config.weights)

    @property
    def facts(self) -> dict[str, Any]:
        """model, revision, weights, layer, image_size (h, w), patches (P), dim (V), grid (h, w)."""
        return dict(self._facts)

    def prepare(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize and crop uint8 RGB ``[F, H, W, 3]`` to the model's size; safe in threads."""
        return self.transform.prepare(frames)

    def encode(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """uint8 RGB ``[B, F, H, W, 3]`` of any size → bf16 ``[B, F, P, V]`` on the CPU."""
        return self.encode_prepared(np.stack([self.prepare(np.asarray(clip)) for clip in frames]))

    def encode_prepared(self, frames: NDArray[np.uint8] | Tensor) -> Tensor:
        """As :meth:`encode`, of frames that went through :meth:`prepare`."""
        return self.encode_on_device(torch.as_tensor(frames).to(self.device)).cpu()

    @torch.inference_mode()
    def encode_on_device(self, frames: Tensor) -> Tensor:
        """Prepared uint8 ``[B, F, h, w, 3]`` → bf16 ``[B, F, P, V]``, both on the device.

        Nothing in it waits for a GPU.
        """
        pixels = self.transform.normalise(frames.flatten(0, 1)).to(self.dtype)
        self._model(pixel_values=pixels)
        assert self._output is not None
        patches, self._output = self._output[:, self._prefix :], None
        shape = (*frames.shape[:2], self._facts["patches"], self._facts["dim"])
        return patches.reshape(shape).to(torch.bfloat16).contiguous()

    def _stop_after(self, layer: int, source: str) -> None:
        blocks = _blocks(self._model)
        count = len(blocks)
        depth = layer if layer >= 0 else count + 1 + layer
        if not 1 <= depth <= count:
            raise StudyError(
                f"{source} has {count} layers; vision.layer is {layer}, expected "
                f"1 to {count} or −{count} to −1."
            )
        del blocks[depth:]
        blocks[depth - 1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._output = output[0] if isinstance(output, tuple) else output


def vision_settings(model: str, revision: str | None, key: str, weights: str) -> dict[str, Any]:
    """The config of a model with an image tower, which must be made for frames of one size.

    Raises:
        StudyError: not at hand, or a NaFlex model.
    """
    raw = settings_of(model, revision, key, random=weights == "random")
    if str(raw.get("model_type", "")).startswith("siglip2"):
        raise StudyError(
            f"{key} '{model}' is a NaFlex model, whose number of patches follows each picture; "
            "expected a SigLIP 2 of fixed resolution, such as google/siglip2-so400m-patch14-384."
        )
    return raw


def random_tower(loader: Any, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A frozen model of random weights with a fixed seed, made on its device."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), device:
        torch.manual_seed(0)
        return loader(config).to(dtype).eval().requires_grad_(False)


def _blocks(model: Any) -> nn.ModuleList:
    """The stack of transformer blocks, under whatever name a family and release give it."""
    count = model.config.num_hidden_layers
    return next(m for m in model.modules() if isinstance(m, nn.ModuleList) and len(m) == count)


def _check_size(config: Any, size: tuple[int, int], source: str) -> None:
    expected = config.image_size
    # DINOv2 fits its position embedding to any size; the others are made for one.
    if not config.model_type.startswith("dinov2") and size != (expected, expected):
        raise StudyError(
            f"{source}: its image processor gives {size[0]}×{size[1]} pixels; expected "
            f"{expected}×{expected}, the size of the model."
        )
    if size[0] % config.patch_size or size[1] % config.patch_size:
        raise StudyError(
            f"{source}: frames of {size} are not whole patches of {config.patch_size}."
        )
