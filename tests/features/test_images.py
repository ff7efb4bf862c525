import json
from typing import Any

import numpy as np
import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.features.images import load_transform, transform_from

CLIP: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 30},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48, 0.45, 0.4],
    "image_std": [0.26, 0.26, 0.27],
}
SIGLIP: dict[str, Any] = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 40, "width": 32},
    "resample": 2,
}


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (2, height // 4, width // 4, 3))
    return noise.repeat(4, 1).repeat(4, 2).astype(np.uint8)


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (36, 36), (100, 52), (240, 428), (24, 20)])
@pytest.mark.parametrize("settings", [CLIP, SIGLIP], ids=["clip", "siglip"])
def test_pixels_are_those_of_the_models_own_processor(settings, shape):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    kind = CLIPImageProcessorPil if settings is CLIP else SiglipImageProcessorPil
    options = {k: v for k, v in settings.items() if k != "image_processor_type"}
    frames = smooth(*shape)
    expected = kind(**options)(list(frames), return_tensors="pt")["pixel_values"]
    transform = transform_from(settings, "test")
    found = transform.normalise(torch.from_numpy(transform.prepare(frames)))
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=1e-5)


def test_old_spellings_and_absent_settings():
    # As in the hub's CLIP ViT-L/14-336: bare numbers, no rescale keys, the old class name.
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 336, "crop_size": 336}
    transform = transform_from(old, "test")
    assert transform.resize == 336 and transform.size == (336, 336)
    assert transform.scale == pytest.approx(1 / 255) and transform.mean[0] == 0.48145466
    # As in SigLIP's: the size alone.
    assert transform_from(SIGLIP, "test").mean == (0.5, 0.5, 0.5)
    fast = transform_from({**SIGLIP, "image_processor_type": "SiglipImageProcessorFast"}, "test")
    assert fast == transform_from(SIGLIP, "test")
    nothing = transform_from({**SIGLIP, "do_normalize": False, "do_rescale": False}, "test")
    assert (nothing.scale, nothing.mean, nothing.std) == (1.0, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_processor_type": "Siglip2ImageProcessor"}, "'Siglip2ImageProcessor'; expected"),
        ({"image_processor_type": None}, "is ''; expected"),
        ({"do_center_crop": False}, "no fixed size"),
        ({"do_resize": False}, "no fixed size"),
        ({"crop_size": 50}, "exceeds"),
        ({"do_pad": True}, "pads"),
    ],
)
def test_unsupported_settings_are_refused(change, message):
    with pytest.raises(StudyError, match=message):
        transform_from({**CLIP, **change}, "vision.model 'x'")


def test_settings_are_found_in_either_file(tmp_path):
    with pytest.raises(StudyError, match=r"preprocessor_config\.json or processor_config\.json"):
        load_transform(str(tmp_path), None, "vision.model")
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": CLIP}))
    assert load_transform(str(tmp_path), None, "vision.model") == transform_from(CLIP, "test")
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(StudyError, match="not JSON"):
        load_transform(str(tmp_path), None, "vision.model")
