"""Towers as people save them: whole models, vision halves, fixed sizes, and none but a config."""

import json
import shutil

import numpy as np
import pytest
import torch
from support.tiny_models import VISION_SIZES

from siglip_study.base.errors import StudyError
from siglip_study.features.scorer import Scorer
from siglip_study.features.towers import VisionEncoder
from siglip_study.models import hub

IMAGES = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
}
FRAMES = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), dtype=np.uint8)


def test_a_vision_half_gives_what_the_whole_model_gives(towers, tmp_path):
    from transformers import CLIPVisionModel, SiglipVisionModel

    for name, half in (("clip", CLIPVisionModel), ("siglip", SiglipVisionModel)):
        folder = tmp_path / name
        half.from_pretrained(towers[name]).save_pretrained(folder)
        shutil.copy(towers[name] / "preprocessor_config.json", folder)
        kind = json.loads((folder / "config.json").read_text())["model_type"]
        assert kind == f"{name}_vision_model"
        found = VisionEncoder(str(folder)).encode(FRAMES)
        assert found.shape == (1, 2, 16, 32)
        assert torch.equal(found, VisionEncoder(str(towers[name])).encode(FRAMES))


def test_a_clip_saved_with_its_projection_is_a_tower(tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION_SIZES, projection_dim=8)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGES))
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
    made = VisionEncoder(str(tmp_path), weights="random")
    features = made.encode(FRAMES)
    assert features.shape == VisionEncoder(str(towers[kind])).encode(FRAMES).shape
    assert bool(torch.isfinite(features).all()) and float(features.float().std()) > 0
    assert made.facts["weights"] == "random"


def test_sizes_that_are_packaged_need_no_files_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "packaged_models", lambda: ["acme/tower"])
    packaged = {
        "config": {"model_type": "clip", "vision_config": VISION_SIZES},
        "image_processor": IMAGES,
    }
    monkeypatch.setattr(hub, "_packaged", lambda model: packaged)
    encoder = VisionEncoder("acme/tower", weights="random")
    assert encoder.encode(FRAMES).shape == (1, 2, 16, 32)
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
    assert a.image_embeddings(FRAMES).shape == (1, 2, texts.shape[1])
    assert a.facts["weights"] == "random"
