import json
import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.features.scorer import Scorer, chunk_captions
from siglip_study.features.store import read_frame_embeddings, write_frame_embeddings

TEXTS = ["a b", "빨간 공", "", "A B", "a much longer text than sixteen bytes"]


@pytest.fixture(scope="module")
def siglip(towers):
    return Scorer(str(towers["siglip"]))


@pytest.fixture(scope="module")
def clip(towers):
    return Scorer(str(towers["clip"]), lowercase=False)


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_cosines_are_those_of_the_whole_model(towers, kind):
    """Scale, bias and both towers together give the logits of transformers' own forward pass."""
    import transformers

    scorer = Scorer(str(towers[kind]))
    model = getattr(transformers, "SiglipModel" if kind == "siglip" else "CLIPModel")
    reference = model.from_pretrained(towers[kind]).eval()
    frames = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32, 3), dtype=np.uint8)
    tokens = scorer.tokenizer(
        [text.lower() for text in TEXTS],
        padding="max_length" if kind == "siglip" else True,
        truncation=True,
        max_length=16,
        return_tensors="pt",
    )
    if kind == "siglip":
        tokens.pop("attention_mask")
    tokens.pop("token_type_ids", None)
    pixels = scorer.transform.normalise(torch.from_numpy(frames[0]))
    with torch.no_grad():
        expected = reference(pixel_values=pixels, **tokens).logits_per_image
    images, texts = scorer.encode(frames)[0], scorer.text_embeddings(TEXTS)
    found = images @ texts.T * scorer.logit_scale + scorer.logit_bias
    assert torch.allclose(found, expected, atol=1e-3)
    assert images.dtype == texts.dtype == torch.float32
    assert torch.allclose(texts.norm(dim=-1), torch.ones(5), atol=1e-5)


@pytest.mark.parametrize("kind", ["siglip", "clip"])
@pytest.mark.parametrize("batch", [1, 2, 99])
def test_order_and_batches_do_not_matter(kind, batch, siglip, clip, monkeypatch):
    scorer = siglip if kind == "siglip" else clip
    texts = [*TEXTS, "x", TEXTS[1], "a b c d", TEXTS[0]]
    monkeypatch.setattr(scorer, "text_batch", batch)
    alone = torch.cat([scorer.text_embeddings([text]) for text in texts])
    assert torch.allclose(scorer.text_embeddings(texts), alone, atol=1e-5)
    published = torch.cat([scorer.published_embeddings([text]) for text in texts])
    assert torch.allclose(scorer.published_embeddings(texts), published, atol=1e-5)


def test_equal_texts_are_embedded_once(siglip, monkeypatch):
    passed: list[int] = []
    whole = siglip._model.get_text_features

    def counted(input_ids: torch.Tensor, **rest: torch.Tensor) -> object:
        passed.append(len(input_ids))
        return whole(input_ids=input_ids, **rest)

    monkeypatch.setattr(siglip._model, "get_text_features", counted)
    found = siglip.caption_embeddings(["One. Two. ONE.", "two.", "One. Two. One."] * 30)
    assert passed == [2] and [len(lengths) for _, lengths in found[:3]] == [3, 1, 3]
    siglip.published_embeddings(["ab", "ab", "cd", "abc"])
    assert passed == [2, 2, 1]


def test_chunks_of_many_captions_are_those_of_each(siglip):
    captions = ["하늘에서 아주 큰 비가 온다. 끝. " * 3, "끝.", "one two three. " * 9, "a. b. a."]
    together = chunk_captions(captions, siglip.tokenizer, siglip.max_positions)
    for caption, found in zip(captions, together, strict=True):
        assert found == chunk_captions([caption], siglip.tokenizer, siglip.max_positions)[0]
        assert all(len(siglip.tokenizer(chunk)["input_ids"]) <= 16 for chunk in found)
    assert chunk_captions([], siglip.tokenizer, 16) == []


def test_a_caption_scores_alike_with_and_without_full_stops(siglip):
    with_stops, *others = siglip.caption_embeddings(
        ["공이 있다. 비가 옵니다. 끝.", "공이 있다 비가 옵니다 끝", "공이 있다, 비가 옵니다; 끝"]
    )
    for without in others:
        assert torch.equal(with_stops[0], without[0]) and torch.equal(with_stops[1], without[1])


def test_lower_case_is_a_flag(siglip, clip):
    lowered, kept = siglip.text_embeddings(["a b", "A B"]), clip.text_embeddings(["a b", "A B"])
    assert torch.equal(lowered[0], lowered[1])
    assert cosine_similarity(kept[0], kept[1], dim=0) < 0.9999


def test_composed_and_decomposed_hangul_are_one_text(siglip):
    one, two = siglip.text_embeddings(["가", "가"])
    assert torch.equal(one, two)


def test_captions_come_in_chunks_with_their_lengths(siglip):
    captions = ["Red ball. It rolls", "", "it rolls", "   "]
    found = siglip.caption_embeddings(captions)
    assert [len(weights) for _, weights in found] == [2, 0, 1, 0]
    assert found[1][0].shape == (0, 32)
    # One token a byte, with the full stop that is set; the tokenizer's own mark does not count.
    assert found[0][1].tolist() == [9.0, 9.0]
    assert torch.equal(found[0][0][1], found[2][0][0])
    assert torch.allclose(found[0][0][0], siglip.text_embeddings(["red ball."])[0], atol=1e-5)
    assert siglip.caption_embeddings([]) == []


def test_published_recipe_is_unpadded_and_cut(siglip):
    texts = ["ab", "a much longer text than sixteen bytes", "cd", ""]
    found = siglip.published_embeddings(texts)
    with torch.no_grad():
        for text, vector in zip(texts, found, strict=True):
            tokens = siglip.tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
            features = siglip._model.get_text_features(input_ids=tokens["input_ids"])
            expected = getattr(features, "pooler_output", features)[0]
            assert cosine_similarity(vector, expected, dim=0) > 0.9999
    assert siglip.published_embeddings([]).shape == (0, 32)
    padded = siglip.text_embeddings(texts)
    assert cosine_similarity(found[0], padded[0], dim=0) < 0.999


def test_scale_and_bias(towers, siglip, clip):
    assert siglip.logit_scale == pytest.approx(math.exp(float(siglip._model.logit_scale)))
    assert siglip.logit_bias == pytest.approx(float(siglip._model.logit_bias))
    assert clip.logit_bias == 0.0
    json.dumps(siglip.facts)


def test_wrong_or_incomplete_scorers_are_refused(towers, tmp_path):
    with pytest.raises(StudyError, match="type 'dinov2'; expected a scorer"):
        Scorer(str(towers["dinov2"]))
    with pytest.raises(
        StudyError, match=r"scorer\.model is '\./none', and there is no such folder"
    ):
        Scorer("./none")
    folder = shutil.copytree(towers["siglip"], tmp_path / "siglip")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(StudyError, match="has no tokenizer; expected one of"):
        Scorer(str(folder))


def test_frame_embeddings_survive_any_id(tmp_path):
    ids = ["__metadata__", "장면\n", "../x", "\u2028"]
    values = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0))
    write_frame_embeddings(tmp_path / "f.safetensors", ids, values, {"model": "m"})
    found = read_frame_embeddings(tmp_path / "f.safetensors")
    assert list(found) == ids and torch.equal(torch.stack(list(found.values())), values)


def test_frame_embeddings_refuse_nonsense(tmp_path):
    path = tmp_path / "f.safetensors"
    with pytest.raises(StudyError, match="1 different ids"):
        write_frame_embeddings(path, ["a", "a"], torch.zeros(2, 1, 4), {})
    with pytest.raises(StudyError, match="clip 'b' are not finite"):
        bad = torch.tensor([[[0.0]], [[torch.inf]]])
        write_frame_embeddings(path, ["a", "b"], bad, {})
    with pytest.raises(StudyError, match="no such file"):
        read_frame_embeddings(path)
    path.write_bytes(b"junk")
    with pytest.raises(Damaged, match="no frame embeddings"):
        read_frame_embeddings(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(StudyError, match="schema is None"):
        read_frame_embeddings(path)
