"""Every tower that is called supported gives its own hidden state's patches, row by row."""

import json

import numpy as np
import pytest
import torch
import transformers
from support.tiny_models import CLIP_IMAGES, DINO_IMAGES, SIGLIP_IMAGES, VISION_SIZES
from transformers import CONFIG_MAPPING

from siglip_study.base.errors import StudyError
from siglip_study.features.images import transform_from
from siglip_study.features.towers import VisionEncoder
from siglip_study.models.families import (
    REFUSED_VISION,
    VISION_FAMILIES,
    patch_grid,
    tower_config,
)
from siglip_study.models.hub import architecture

#: Not a whole number of patches of 8: the last six pixels are dropped, as of 384 in patches of 14.
SIDE, GRID, WIDTH = 30, 3, 32
PICTURES = np.random.default_rng(2).integers(0, 256, (1, 2, SIDE, SIDE, 3), dtype=np.uint8)
IMAGES = {
    "clip": CLIP_IMAGES,
    "siglip": SIGLIP_IMAGES,
    "dino": DINO_IMAGES,
    "vit": SIGLIP_IMAGES | {"image_processor_type": "ViTImageProcessor"},
    "beit": SIGLIP_IMAGES | {"image_processor_type": "BeitImageProcessor"},
    "deit": CLIP_IMAGES
    | {"image_processor_type": "DeiTImageProcessor", "size": {"height": 40, "width": 40}},
    "dinov3": SIGLIP_IMAGES | {"image_processor_type": "DINOv3ViTImageProcessorFast"},
}
#: type → (tokens before the patches, image processor, further settings)
TOWERS = {
    "clip_vision_model": (1, "clip", {}),
    "siglip_vision_model": (0, "siglip", {}),
    "dinov2": (1, "dino", {"mlp_ratio": 2}),
    "dinov2_with_registers": (1 + 3, "dino", {"num_register_tokens": 3, "mlp_ratio": 2}),
    "dinov3_vit": (1 + 2, "dinov3", {"num_register_tokens": 2}),
    "vit": (1, "vit", {}),
    "vit_msn": (1, "vit", {}),
    "deit": (1 + 1, "deit", {}),
    "beit": (1, "beit", {"use_relative_position_bias": True}),
    "data2vec-vision": (1, "beit", {"use_relative_position_bias": True}),
    "ijepa": (0, "vit", {}),
    "aimv2_vision_model": (0, "clip", {}),
    "mlcd_vision_model": (1, "clip", {}),
}


@pytest.fixture
def tower(tmp_path):
    """A tiny tower of a type, saved as people save it, without the image processor's file."""

    def save(kind, **changes):
        _, images, more = TOWERS[kind]
        sizes = VISION_SIZES | {"image_size": SIDE, "initializer_range": 0.2} | more | changes
        if "mlp_ratio" in sizes:
            del sizes["intermediate_size"]
        torch.manual_seed(0)
        family = VISION_FAMILIES[kind]
        loader = getattr(transformers, family.model)
        model = loader(CONFIG_MAPPING[kind](**sizes), **family.options).eval()
        model.save_pretrained(tmp_path)
        square = {"height": SIDE, "width": SIDE}
        fitting = IMAGES[images] | ({"crop_size": square} if "crop_size" in IMAGES[images] else {})
        if "do_center_crop" not in fitting:
            fitting["size"] = square
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(fitting))
        return model

    return save


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("layer", [-1, 2])
def test_tokens_are_the_grid_of_the_model_s_own_hidden_state(tower, tmp_path, kind, layer):
    prefix = TOWERS[kind][0]
    model, encoder = tower(kind), VisionEncoder(str(tmp_path), layer=layer)
    assert encoder.facts["grid"] == [GRID, GRID] and encoder.facts["patches"] == GRID * GRID
    pixels = encoder.transform.normalise(torch.from_numpy(encoder.prepare(PICTURES[0])))
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states[layer]
    assert states.shape == (2, prefix + GRID * GRID, WIDTH)
    assert torch.equal(encoder.encode(PICTURES)[0], states[:, prefix:].to(torch.bfloat16))


@pytest.mark.parametrize("kind", TOWERS)
def test_patches_run_row_by_row_and_the_border_left_over_is_not_seen(tower, tmp_path, kind):
    tower(kind, initializer_range=0.02)
    encoder = VisionEncoder(str(tmp_path), layer=1)
    encoder.transform = transform_from(
        SIGLIP_IMAGES | {"size": {"height": SIDE, "width": SIDE}}, "as they are"
    )
    seen, changed, border = (PICTURES.copy() for _ in "abc")
    changed[:, :, 8:16, 16:24] ^= 255  # second row, third column
    border[:, :, 24:] ^= 255
    border[:, :, :, 24:] ^= 255
    before, moved, same = (encoder.encode(each).float() for each in (seen, changed, border))
    assert ((moved - before).norm(dim=-1).argmax(dim=-1) == GRID + 2).all()
    assert torch.equal(before, same)


def test_the_commonest_tower_of_llava_s_family_has_27_times_27_patches(tmp_path):
    """SigLIP so400m/14 at 384 pixels, with its sizes but for width and depth."""
    raw = architecture("google/siglip2-so400m-patch14-384")
    assert patch_grid(tower_config(raw, "it"), (384, 384)) == (27, 27)
    vision = raw["vision_config"] | VISION_SIZES | {"image_size": 384, "patch_size": 14}
    (tmp_path / "config.json").write_text(json.dumps(raw | {"vision_config": vision}))
    square = {"size": {"height": 384, "width": 384}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(SIGLIP_IMAGES | square))
    encoder = VisionEncoder(str(tmp_path), weights="random", layer=1)
    assert encoder.facts["grid"] == [27, 27]
    assert encoder.encode(PICTURES).shape == (1, 2, 27 * 27, WIDTH)


def test_every_supported_type_is_tried_here():
    halves = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
    assert {halves.get(kind, kind) for kind in VISION_FAMILIES} == set(TOWERS)


@pytest.mark.parametrize("kind", [*REFUSED_VISION, "yolos", "bert", ""])
def test_other_models_are_refused_in_one_sentence(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(StudyError, match=r"^vision\.model '.*' is .*; expected .*\.$") as told:
        VisionEncoder(str(tmp_path))
    assert str(told.value).count(". ") == 0


def test_a_vit_saved_with_a_classifier_is_a_tower(tmp_path):
    sizes = VISION_SIZES | {"num_labels": 3}
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGES["vit"]))
    encoder = VisionEncoder(str(tmp_path), layer=-1)
    frames = np.resize(PICTURES, (1, 2, 32, 32, 3))
    pixels = encoder.transform.normalise(torch.from_numpy(frames[0]))
    with torch.no_grad():
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert torch.equal(encoder.encode(frames)[0], states[-1][:, 1:].to(torch.bfloat16))


# ---- The image processors of these families, and their settings of former years.


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "ViTImageProcessorPil"),
        ({"image_processor_type": "DeiTImageProcessor"}, "DeiTImageProcessorPil"),
        ({"image_processor_type": "BeitImageProcessor"}, "BeitImageProcessorPil"),
        ({"feature_extractor_type": "ViTFeatureExtractor", "size": 48}, "ViTImageProcessorPil"),
        (
            {"feature_extractor_type": "DeiTFeatureExtractor", "size": 64, "crop_size": 48},
            "DeiTImageProcessorPil",
        ),
    ],
)
def test_frames_are_prepared_as_by_transformers(settings, name):
    made = getattr(transformers, name)
    frames = np.random.default_rng(0).integers(0, 256, (1, 60, 90, 3), dtype=np.uint8)
    ours = transform_from(settings, "a model")
    found = ours.normalise(torch.from_numpy(ours.prepare(frames)))
    given = {k: v for k, v in settings.items() if not k.endswith("_type")}
    expected = made(**given)(list(frames), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
