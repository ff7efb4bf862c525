"""Losses over a prompt read once equal those of whole sequences."""

import pytest
import torch
from support.tiny_models import stir_adapters

from siglip_study.captioning import generate
from siglip_study.captioning.cache import grouped_attention
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.losses import can_share_prompts, losses_under_videos

# Per video: long and short ones, one of EOS alone, one whose single token is fed.
CAPTIONS = [
    [[5, 6, 7, 8, 9, 10, 11, 2], [9, 2], [2]],
    [[7, 2], [12, 13, 2], [2]],
    [[30, 31, 32, 33, 2], [8, 2], [2]],
]


def shared(model, features, most=9):
    """``[videos, captions]``, of at most so many videos at a time."""

    def videos(numbers):
        return features.batch([f"clip{i}" for i in numbers])

    return torch.tensor(losses_under_videos(model, videos, CAPTIONS, most))


@torch.no_grad()
def whole(model, features):
    """The same of whole sequences, one at a time."""
    videos = [features.batch([f"clip{i}"]) for i in range(len(CAPTIONS))]
    losses = [
        model.caption_loss(video, [caption])[0]
        for video, captions in zip(videos, CAPTIONS, strict=True)
        for caption in captions
    ]
    return torch.cat(losses).view(len(CAPTIONS), -1)


def test_shared_prompts_give_the_losses_of_whole_sequences(make_family, features, family):
    model = make_family(family)
    expected = whole(model, features)
    for most in (1, 2, 50):
        torch.testing.assert_close(shared(model, features, most), expected, rtol=1e-5, atol=0)


def test_adapters_count_and_chunks_do_not(make_model, features, monkeypatch):
    model = make_model(lora=True).eval()
    stir_adapters(model.llm)
    expected = whole(model, features)
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 1)
    torch.testing.assert_close(shared(model, features), expected, rtol=1e-5, atol=0)
    with model.llm.disable_adapter():
        assert not torch.allclose(whole(model, features), expected)


def test_each_prompt_is_read_once(make_family, features):
    model = make_family("qwen3")
    lengths = []
    model.llm.model.register_forward_pre_hook(
        lambda module, args, options: lengths.append(options["inputs_embeds"].shape[:2]),
        with_kwargs=True,
    )
    shared(model, features)
    assert lengths == [(3, 13), (3, 7), (3, 2)]  # captions of EOS alone need no pass


def test_a_model_that_a_dense_cache_does_not_describe(make_family, features):
    model = make_family("llama")
    assert can_share_prompts(model)
    model.llm.config.attention_chunk_size = 64
    assert not can_share_prompts(model)
    with pytest.raises(ValueError, match="dense cache"):
        shared(model, features)


@pytest.mark.parametrize("family", ["gpt_oss", "gemma2"])
def test_attention_that_is_more_than_a_mask_is_not_shared(make_family, features, numbers, family):
    """Sinks and capped scores would be dropped, and the losses wrong without a word."""
    model = make_family(family)
    assert not can_share_prompts(model)
    with pytest.raises(ValueError, match="can_share_prompts"):
        shared(model, features)
    given = model, numbers, ["clip0", "clip1"], features.batch
    assert len(generate_captions(*given, max_new_tokens=3)) == 2
    with pytest.raises(ValueError, match="sinks or capped scores"):
        generate_captions(*given, max_new_tokens=3, graphs=True)


@pytest.mark.parametrize("name", ["s_aux", "softcap"])
def test_what_a_model_passes_beside_the_mask_is_never_dropped(name):
    x = torch.zeros(1, 2, 1, 4)
    with pytest.raises(ValueError, match=f"'{name}'"):
        grouped_attention(torch.nn.Identity(), x, x, x, None, **{name: torch.ones(2)})
