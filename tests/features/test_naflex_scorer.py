"""A NaFlex SigLIP 2 as scorer: pictures of any shape, against transformers' own calls."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import TEXT_SIZES

from siglip_study.base.errors import StudyError
from siglip_study.data.clips import ClipFile
from siglip_study.features.images import PatchTransform
from siglip_study.features.pipeline import stream_frames
from siglip_study.features.scorer import Scorer
from siglip_study.planning.workload import frame_size

LENGTH, PATCH, MOST = 16, 8, 20
IMAGES = {
    "image_processor_type": "Siglip2ImageProcessor",
    "patch_size": PATCH,
    "max_num_patches": MOST,
    "resample": 2,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.5, 0.4, 0.3],
}
SHAPES = [(40, 40), (24, 90), (97, 31), (8, 400)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Siglip2Config, Siglip2Model

    folder = tmp_path_factory.mktemp("naflex")
    text = TEXT_SIZES | {"vocab_size": 8, "projection_size": 32}
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    vision = {key: text[key] for key in sizes} | {"patch_size": PATCH, "num_patches": 16}
    torch.manual_seed(0)
    model = Siglip2Model(Siglip2Config(vision_config=vision, text_config=text))
    with torch.no_grad():
        # At their initial size the positions would hardly matter.
        model.vision_model.embeddings.position_embedding.weight.normal_()
        model.text_model.embeddings.position_embedding.weight.normal_()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(IMAGES))
    words = {name: i for i, name in enumerate(["<pad>", "<unk>", "a", "red", "ball"])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def picture(height: int, width: int, frames: int = 2) -> np.ndarray:
    rng = np.random.default_rng(height)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_cosines_are_those_of_the_model_called_by_hand(checkpoint, shape):
    from transformers import AutoImageProcessor, AutoTokenizer, Siglip2Model

    texts = ["a red ball", "A ball", ""]
    frames = picture(*shape)
    scorer = Scorer(str(checkpoint))
    found = scorer.encode(frames[None])[0] @ scorer.text_embeddings(texts).T
    model = Siglip2Model.from_pretrained(checkpoint).eval()
    seen = AutoImageProcessor.from_pretrained(checkpoint)(list(frames), return_tensors="pt")
    tokens = AutoTokenizer.from_pretrained(checkpoint)(
        [text.lower() for text in texts],
        padding="max_length",
        max_length=LENGTH,
        return_tensors="pt",
    )
    with torch.no_grad():
        told = model(**seen, input_ids=tokens["input_ids"])
    assert seen["pixel_attention_mask"].sum() <= 2 * MOST
    torch.testing.assert_close(found, told.image_embeds @ told.text_embeds.T, atol=1e-5, rtol=0)


def test_the_input_is_that_of_the_models_own_processor(checkpoint):
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(checkpoint)
    transform = Scorer(str(checkpoint)).transform
    for shape in SHAPES:
        frames = picture(*shape)
        expected = processor(list(frames), return_tensors="pt")
        found = transform.inputs(torch.tensor(transform.prepare(frames)))
        assert found.keys() == expected.keys()
        mask = expected["pixel_attention_mask"].bool()
        assert torch.equal(found["pixel_attention_mask"].bool(), mask)
        assert torch.equal(found["spatial_shapes"], expected["spatial_shapes"].long())
        pixels = found["pixel_values"][mask], expected["pixel_values"][mask].float()
        torch.testing.assert_close(*pixels, atol=1e-5, rtol=0)


def test_clips_of_different_shapes_go_in_one_batch(checkpoint):
    scorer = Scorer(str(checkpoint))
    clips = {f"{h}x{w}": picture(h, w) for h, w in SHAPES}
    named = [(name, ClipFile(Path(name))) for name in clips]
    read = lambda clip, n: clips[clip.path.name]  # noqa: E731
    (batch,) = stream_frames(named, read, scorer.prepare, 2, [len(clips)], 1)
    together = scorer.encode_on_device(batch)
    for own, frames in zip(together, clips.values(), strict=True):
        torch.testing.assert_close(own, scorer.encode(frames[None])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(clips), 2))


def test_a_grid_wider_than_a_byte():
    transform = PatchTransform({**IMAGES, "patch_size": 2, "max_num_patches": 700}, "it")
    packed = transform.prepare(picture(2, 1300, frames=1))
    inputs = transform.inputs(torch.tensor(packed))
    rows, columns = inputs["spatial_shapes"][0].tolist()
    assert columns > 255 and rows * columns <= 700
    assert int(inputs["pixel_attention_mask"].sum()) == rows * columns


def test_random_weights_and_facts(checkpoint, tmp_path):
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        shutil.copy(checkpoint / name, tmp_path)
    shutil.copy(checkpoint / "tokenizer_config.json", tmp_path)
    made = Scorer(str(tmp_path), weights="random")
    assert made.facts["image_size"] == [32, 32] and made.max_positions == LENGTH
    assert made.encode(picture(30, 50)[None]).shape == (1, 2, 32)
    assert made.text_embeddings([]).shape == (0, 32)
    raw = json.loads((checkpoint / "config.json").read_text())
    assert frame_size(raw, str(checkpoint), "scorer.model") == (32, 32)


@pytest.mark.parametrize(
    "wrong", [{"image_processor_type": "SiglipImageProcessor"}, {"do_rescale": False}]
)
def test_other_settings_are_refused(wrong):
    with pytest.raises(StudyError, match=r"it: its image processor is.*expected Siglip2ImageProc"):
        PatchTransform({**IMAGES, **wrong}, "it")


def test_a_tower_alone_is_no_scorer(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip2_vision_model"}))
    with pytest.raises(StudyError, match=r"'siglip2_vision_model'; expected a scorer of type"):
        Scorer(str(tmp_path))
