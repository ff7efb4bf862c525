import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from support.tiny_models import CLIP_IMAGES, VISION_SIZES

from siglip_study.base.errors import StudyError
from siglip_study.features.scorer import Scorer
from siglip_study.features.towers import VisionEncoder
from siglip_study.models import hub

FRAMES = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
#: kind → its class in transformers, and tokens before the patches
TOWERS = {
    "clip": ("CLIPVisionModel", 1),
    "siglip": ("SiglipVisionModel", 0),
    "siglip_vision_model": ("SiglipVisionModel", 0),
    "dinov2": ("Dinov2Model", 1),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", 4),
}


@pytest.mark.parametrize("kind", list(TOWERS))
@pytest.mark.parametrize("layer", [-1, -2, 1])
def test_features_are_the_hidden_state_without_prefix_tokens(towers, kind, layer):
    name, prefix = TOWERS[kind]
    reference = getattr(transformers, name).from_pretrained(towers[kind]).eval()
    encoder = VisionEncoder(str(towers[kind]), layer=layer)
    pixels = encoder.transform.normalise(
        torch.from_numpy(encoder.prepare(FRAMES.reshape(6, 32, 32, 3)))
    )
    with torch.no_grad():
        states = reference(pixel_values=pixels, output_hidden_states=True).hidden_states
    expected = states[layer][:, prefix:].reshape(2, 3, 16, 32)
    found = encoder.encode(FRAMES)
    assert found.dtype == torch.bfloat16 and found.shape == (2, 3, 16, 32)
    assert torch.equal(found, expected.to(torch.bfloat16))


def test_two_layers_lie_side_by_side_in_their_order(towers):
    folder = str(towers["clip"])
    both = VisionEncoder(folder, layer=(-1, 1))
    assert both.facts["dim"] == 64 and both.facts["layer"] == [-1, 1]
    apart = [VisionEncoder(folder, layer=layer).encode(FRAMES) for layer in (-1, 1)]
    assert torch.equal(both.encode(FRAMES), torch.cat(apart, dim=-1))


def test_patches_run_row_by_row(towers):
    """A change in one corner of the frame moves that corner's feature most, in the first layer."""
    encoder = VisionEncoder(str(towers["siglip_vision_model"]), layer=1)
    changed = FRAMES.copy()
    changed[:, :, 0:8, 24:32] ^= 255
    moved = (encoder.encode(changed) - encoder.encode(FRAMES)).float().norm(dim=-1)
    assert encoder.facts["grid"] == [4, 4]
    assert (moved.argmax(dim=-1) == 3).all()


def test_a_clip_does_not_depend_on_its_batch(towers):
    encoder = VisionEncoder(str(towers["clip"]))
    alone = torch.cat([encoder.encode(FRAMES[i : i + 1]) for i in range(2)])
    assert torch.allclose(alone.float(), encoder.encode(FRAMES).float(), atol=2e-2)
    mixed = encoder.encode([np.zeros((3, 40, 70, 3), np.uint8), FRAMES[1]])
    assert torch.allclose(mixed[1].float(), alone[1].float(), atol=2e-2)


def test_facts(towers):
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


@pytest.mark.parametrize("layer", [0, 4, -4])
def test_no_such_layer(towers, layer):
    with pytest.raises(StudyError, match=f"has 3 layers; vision.layer is {layer}"):
        VisionEncoder(str(towers["clip"]), layer=layer)


def test_wrong_models_are_refused(towers, tmp_path):
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


@pytest.mark.parametrize("kind", list(TOWERS))
def test_attention_is_fused(towers, kind):
    assert VisionEncoder(str(towers[kind]))._model.config._attn_implementation == "sdpa"


# ---- Towers as people save them: whole models, vision halves, and none but a config.


def test_a_vision_half_gives_what_the_whole_model_gives(towers, tmp_path):
    from transformers import CLIPVisionModel, SiglipVisionModel

    for name, half in (("clip", CLIPVisionModel), ("siglip", SiglipVisionModel)):
        folder = tmp_path / name
        half.from_pretrained(towers[name]).save_pretrained(folder)
        shutil.copy(towers[name] / "preprocessor_config.json", folder)
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        assert kind == f"{name}_vision_model"
        found = VisionEncoder(str(folder)).encode(FRAMES)
        assert found.shape == (2, 3, 16, 32)
        assert torch.equal(found, VisionEncoder(str(towers[name])).encode(FRAMES))


def test_a_clip_saved_with_its_projection_is_a_tower(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION_SIZES, projection_dim=8)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP_IMAGES))
    encoder = VisionEncoder(str(tmp_path), layer=-1)
    pixels = encoder.transform.normalise(torch.tensor(FRAMES[0]))
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    found = encoder.encode(FRAMES)[0]
    torch.testing.assert_close(found.float(), states[-1][:, 1:], rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize("kind", ["siglip2", "siglip2_vision_model"])
def test_naflex_is_no_tower_of_patches(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(StudyError, match=r"NaFlex model.*expected a SigLIP 2 of fixed resolution"):
        VisionEncoder(str(tmp_path))


@pytest.mark.parametrize("kind", ["clip", "siglip", "dinov2", "dinov2_with_registers"])
def test_random_towers_have_the_shape_of_pretrained_ones(towers, tmp_path, kind):
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(towers[kind] / name, tmp_path)
    before = torch.random.get_rng_state()
    made, again = (VisionEncoder(str(tmp_path), weights="random") for _ in "ab")
    features = made.encode(FRAMES)
    assert torch.equal(features, again.encode(FRAMES))
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(StudyError, match="cannot be loaded"):
        VisionEncoder(str(tmp_path))
    assert features.shape == VisionEncoder(str(towers[kind])).encode(FRAMES).shape
    assert bool(torch.isfinite(features).all()) and float(features.float().std()) > 0
    assert made.facts["weights"] == "random"


def test_sizes_that_are_packaged_need_no_files_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "packaged_models", lambda: ["acme/tower"])
    packaged = {
        "config": {"model_type": "clip", "vision_config": VISION_SIZES},
        "image_processor": CLIP_IMAGES,
    }
    monkeypatch.setattr(hub, "_packaged", lambda model: packaged)
    encoder = VisionEncoder("acme/tower", weights="random")
    assert encoder.encode(FRAMES).shape == (2, 3, 16, 32)
    # Real weights still need the real files.
    with pytest.raises(StudyError, match="models fetch"):
        VisionEncoder("acme/tower")


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_random_scorers_are_whole_and_fixed(towers, tmp_path, kind):
    folder = shutil.copytree(towers[kind], tmp_path / "scorer")
    (folder / "model.safetensors").unlink()
    with pytest.raises(StudyError, match="cannot be loaded"):
        Scorer(str(folder))
    a, b = (Scorer(str(folder), weights="random") for _ in "ab")
    texts = a.text_embeddings(["a ball", "빨간 공"])
    assert torch.equal(texts, b.text_embeddings(["a ball", "빨간 공"]))
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(2))
    assert a.encode(FRAMES).shape == (2, 3, texts.shape[1])
    assert a.facts["weights"] == "random"
