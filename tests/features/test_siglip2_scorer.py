"""A checkpoint as SigLIP 2 comes: Gemma's tokenizer, 64 positions, all of them filled."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.tiny_models import SIGLIP_IMAGES, TEXT_SIZES, VISION_SIZES

from siglip_study.features.scorer import Scorer

TEXTS = ["A Red Ball rolls.", "빨간 공이 굴러간다.", "ÄRMEL und 가", "", "a " * 90]
LENGTH = 64


def gemma_tokenizer(kind: str, side: str):
    """BPE with byte fallback, spaces as "▁", an end mark and no start mark, as Gemma's."""
    import transformers
    from tokenizers import processors

    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{i:02X}>" for i in range(256))]
    names += ["▁", *"abcdeghlnorsABR.가공"]
    tokenizer = getattr(transformers, kind)(
        vocab={name: i for i, name in enumerate(names)},
        merges=[],
        padding_side=side,
        model_max_length=LENGTH,
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


@pytest.fixture(
    scope="module",
    params=[("GemmaTokenizer", "right"), ("GemmaTokenizer", "left"), ("Siglip2Tokenizer", "right")],
    ids="-".join,
)
def checkpoint(request, tmp_path_factory):
    from transformers import SiglipConfig, SiglipModel

    folder = tmp_path_factory.mktemp("siglip2")
    text = TEXT_SIZES | {"max_position_embeddings": LENGTH, "projection_size": 32}
    text |= {"hidden_act": "gelu_pytorch_tanh", "bos_token_id": 2}
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(vision_config=VISION_SIZES, text_config=text))
    with torch.no_grad():
        # At their initial size the positions would hardly matter.
        model.text_model.embeddings.position_embedding.weight.normal_()
        model.text_model.embeddings.token_embedding.weight.normal_()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(SIGLIP_IMAGES))
    gemma_tokenizer(*request.param).save_pretrained(folder)
    return folder


def by_hand(folder: Path, texts: list[str], frames: np.ndarray, **padding) -> torch.Tensor:
    """Cosines ``[F, N]`` of transformers' own model, as SigLIP 2's card calls it."""
    from transformers import AutoTokenizer, SiglipModel

    model = SiglipModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        [text.lower() for text in texts],
        truncation=True,
        max_length=LENGTH,
        return_tensors="pt",
        **padding,
    )
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        told = model(pixel_values=pixels, input_ids=tokens["input_ids"])
    return told.image_embeds @ told.text_embeds.T


def test_cosines_are_those_of_the_model_called_by_hand(checkpoint):
    scorer = Scorer(str(checkpoint))
    assert scorer.max_positions == LENGTH
    frames = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = scorer.encode(frames[None])[0] @ scorer.text_embeddings(TEXTS).T
    expected = by_hand(checkpoint, TEXTS, frames, padding="max_length")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # Padded to the longest text instead, short ones are other vectors.
    short = by_hand(checkpoint, TEXTS[:2], frames, padding="longest")
    assert (short - found[:, :2]).abs().max() > 1e-3


def test_every_text_fills_the_positions_and_is_lower_cased(checkpoint, monkeypatch):
    scorer = Scorer(str(checkpoint))
    seen = []
    own = scorer._model.get_text_features
    monkeypatch.setattr(
        scorer._model,
        "get_text_features",
        lambda **tokens: seen.append(tokens) or own(**tokens),
    )
    upper, lower = scorer.text_embeddings(["A BALL", "a ball"])
    assert torch.equal(upper, lower)
    scorer.text_embeddings(TEXTS)
    for tokens in seen:
        # No mask: the model attends to its padding, as in its training.
        assert set(tokens) == {"input_ids"} and tokens["input_ids"].shape[1] == LENGTH


def test_long_captions_are_chunked_and_no_chunk_is_cut(checkpoint):
    scorer = Scorer(str(checkpoint))
    sentence = "a red ball goes along the road. "
    chunks, lengths = scorer.caption_embeddings([sentence * 5])[0]
    assert len(chunks) == 5 and len(set(lengths.tolist())) == 1
    assert lengths[0] == len(scorer.tokenizer(sentence.strip())["input_ids"]) - 1
    torch.testing.assert_close(chunks[0], scorer.text_embeddings([sentence.strip()])[0])
    long, sizes = scorer.caption_embeddings(["a " * 90])[0]
    assert len(long) > 1 and (sizes < LENGTH).all()
