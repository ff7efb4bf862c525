import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.features.towers import VisionEncoder

FRAMES = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
PREFIX = {"clip": 1, "siglip": 0, "siglip_vision_model": 0, "dinov2": 1, "dinov2_with_registers": 4}


@pytest.mark.parametrize("kind", list(PREFIX))
@pytest.mark.parametrize("layer", [-1, -2, 1])
def test_features_are_the_hidden_state_without_prefix_tokens(
    towers: dict[str, Path], kind: str, layer: int
) -> None:
    import transformers

    name = {
        "clip": "CLIPVisionModel",
        "siglip": "SiglipVisionModel",
        "siglip_vision_model": "SiglipVisionModel",
        "dinov2": "Dinov2Model",
        "dinov2_with_registers": "Dinov2WithRegistersModel",
    }[kind]
    reference = getattr(transformers, name).from_pretrained(towers[kind]).eval()
    encoder = VisionEncoder(str(towers[kind]), layer=layer)
    pixels = encoder.transform.normalise(
        torch.from_numpy(encoder.prepare(FRAMES.reshape(6, 32, 32, 3)))
    )
    with torch.no_grad():
        states = reference(pixel_values=pixels, output_hidden_states=True).hidden_states
    expected = states[layer][:, PREFIX[kind] :].reshape(2, 3, 16, 32)
    found = encoder.encode(FRAMES)
    assert found.dtype == torch.bfloat16 and found.shape == (2, 3, 16, 32)
    assert torch.equal(found, expected.to(torch.bfloat16))


def test_patches_run_row_by_row(towers: dict[str, Path]) -> None:
    """A change in one corner of the frame moves that corner's feature most, in the first layer."""
    encoder = VisionEncoder(str(towers["siglip_vision_model"]), layer=1)
    changed = FRAMES.copy()
    changed[:, :, 0:8, 24:32] ^= 255
    moved = (encoder.encode(changed) - encoder.encode(FRAMES)).float().norm(dim=-1)
    assert encoder.facts["grid"] == [4, 4]
    assert (moved.argmax(dim=-1) == 3).all()


def test_a_clip_does_not_depend_on_its_batch(towers: dict[str, Path]) -> None:
    encoder = VisionEncoder(str(towers["clip"]))
    alone = torch.cat([encoder.encode(FRAMES[i : i + 1]) for i in range(2)])
    assert torch.allclose(alone.float(), encoder.encode(FRAMES).float(), atol=2e-2)
    mixed = encoder.encode([np.zeros((3, 40, 70, 3), np.uint8), FRAMES[1]])  # type: ignore[arg-type]
    assert torch.allclose(mixed[1].float(), alone[1].float(), atol=2e-2)


def test_facts(towers: dict[str, Path]) -> None:
    facts = VisionEncoder(str(towers["clip"]), layer=-2).facts
    assert facts == {
        "model": str(towers["clip"]),
        "revision": None,
        "weights": "pretrained",
        "layer": -2,
        "image_size": [32, 32],
        "patches": 16,
        "dim": 32,
        "grid": [4, 4],
    }
    json.dumps(facts)


def test_random_weights_need_a_config_only_and_are_fixed(
    towers: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(towers["clip"] / name, tmp_path)
    before = torch.random.get_rng_state()
    first, second = (VisionEncoder(str(tmp_path), weights="random").encode(FRAMES) for _ in "ab")
    assert torch.equal(first, second) and torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(StudyError, match="cannot be loaded"):
        VisionEncoder(str(tmp_path))


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_no_such_layer(towers: dict[str, Path], layer: int) -> None:
    with pytest.raises(StudyError, match=f"has 3 layers; vision.layer is {layer}"):
        VisionEncoder(str(towers["clip"]), layer=layer)


def test_missing_folder_is_said_so() -> None:
    for name in ("resources/none/clip", "./none", "/none", "none"):
        with pytest.raises(StudyError, match="no such folder"):
            VisionEncoder(name)


def test_absent_hub_model_says_how_to_fetch_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        StudyError, match=r"acme/tower' \(revision abc\).*python -m siglip_study.models fetch"
    ):
        VisionEncoder("acme/tower", revision="abc")


def test_wrong_models_are_refused(towers: dict[str, Path], tmp_path: Path) -> None:
    other = shutil.copytree(towers["clip"], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "qwen3"}))
    with pytest.raises(StudyError, match="type 'qwen3'; expected a vision tower"):
        VisionEncoder(str(other))
    size = shutil.copytree(towers["siglip_vision_model"], tmp_path / "size")
    images = json.loads((size / "preprocessor_config.json").read_text())
    images["size"] = {"height": 40, "width": 40}
    (size / "preprocessor_config.json").write_text(json.dumps(images))
    with pytest.raises(StudyError, match="40×40 pixels; expected 32×32"):
        VisionEncoder(str(size))


def test_a_checkpoint_that_lacks_weights_is_refused(
    towers: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(towers["clip"], tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "vision" in name and "layers.1" in name))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match="1 weights are missing"):
        VisionEncoder(str(folder))


def test_pickled_weights_are_never_read(towers: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(towers["clip"], tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(StudyError, match="cannot be loaded"):
        VisionEncoder(str(folder))


@pytest.mark.parametrize("kind", list(PREFIX))
def test_attention_is_fused(towers: dict[str, Path], kind: str) -> None:
    assert VisionEncoder(str(towers[kind]))._model.config._attn_implementation == "sdpa"
