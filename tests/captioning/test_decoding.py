"""The decoding loop against transformers' own greedy search: the same ids, whatever the batch."""

import pytest
import torch

from siglip_study.captioning import decoding
from siglip_study.captioning.cache import DenseCache, layer_windows
from siglip_study.captioning.decoding import Batch, Limits, decode, prefill
from siglip_study.captioning.generate import generate_captions

pytestmark = pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
EOS = 2
BIAS = 2.5  # captions end now and then
IDS = [f"clip{i}" for i in range(9)]
FAMILIES = ("qwen3", "llama", "gemma3", "gemma3_short_window", "mistral_sliding")


def reference(model, features, ids, limit, penalty=1.0):
    """transformers' generate, one clip at a time; ids up to EOS."""
    rows = []
    for clip in ids:
        prompt = model.prompt_embeddings(features.batch([clip]))
        with torch.no_grad():
            row = model.llm.generate(
                inputs_embeds=prompt,
                attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long),
                max_new_tokens=limit,
                do_sample=False,
                repetition_penalty=penalty,
                eos_token_id=EOS,
                pad_token_id=0,
            )[0].tolist()
        rows.append(row[: row.index(EOS)] if EOS in row else row)
    return rows


def ours(model, features, numbers, ids, limit, **options):
    captions = generate_captions(
        model, numbers, ids, features.batch, max_new_tokens=limit, **options
    )
    return [[int(token) for token in caption.text.split()] for caption in captions]


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_ids_equal_those_of_transformers(make_family, features, numbers, family, penalty):
    model = make_family(family, eos_bias=BIAS)
    expected = reference(model, features, IDS, 24, penalty)
    lengths = {len(row) for row in expected}
    assert len(lengths) > 2 and 24 in lengths  # some end early, some never
    for size in (1, 4, 9, 50, None):
        found = ours(model, features, numbers, IDS, 24, batch_size=size, repetition_penalty=penalty)
        assert found == expected, size


@pytest.mark.parametrize("interval", [1, 3, 16])
def test_when_rows_leave_changes_nothing(make_family, features, numbers, monkeypatch, interval):
    """On a GPU the host looks only now and then: rows are decoded beyond their end."""
    model = make_family("qwen3", eos_bias=BIAS)
    expected = reference(model, features, IDS, 24)
    monkeypatch.setattr(decoding, "looks", lambda device: interval)
    for leaves in (0.01, 0.25, 1.0):
        monkeypatch.setattr(decoding, "_LEAVES", leaves)
        assert ours(model, features, numbers, IDS, 24) == expected


@pytest.mark.parametrize("family", ["qwen3", "gemma3_short_window"])
def test_recorded_steps_cross_their_bounds(make_family, features, numbers, monkeypatch, family):
    from siglip_study.captioning import decoding as steps

    model = make_family(family, eos_bias=BIAS)
    expected = ours(model, features, numbers, IDS, 24)
    for bound in (1, 3, 8):
        monkeypatch.setattr(steps, "_BOUND", bound)
        assert ours(model, features, numbers, IDS, 24, graphs=True) == expected
    assert model.llm.config._attn_implementation == "sdpa"


def test_what_lies_beyond_the_position_is_a_number(make_family, features):
    """A recorded step reads masked positions that nothing has written yet."""
    model = make_family("qwen3")
    cache = DenseCache(layer_windows(model.llm.config), 2, 64)
    with torch.no_grad():
        prefill(model, model.prompt_embeddings(features.batch(IDS[:2])), cache)
    for layer in cache.layers:
        assert not layer.keys[:, :, 13:].any() and not layer.values[:, :, 13:].any()
        assert layer.keys[:, :, :13].all()


def test_finished_rows_leave_the_batch(make_family, features, monkeypatch):
    model = make_family("qwen3", eos_bias=BIAS)
    fed = []
    feed = Batch.feed
    monkeypatch.setattr(
        Batch, "feed", lambda self, *args: fed.append(len(self.last)) or feed(self, *args)
    )
    prompt = model.prompt_embeddings(features.batch(IDS))
    cache = DenseCache(layer_windows(model.llm.config), len(IDS), prompt.shape[1] + 24)
    with torch.no_grad():
        hidden = prefill(model, prompt, cache)
        cache.advance(prompt.shape[1])
        tokens, steps = decode(model, cache, hidden, Limits(EOS, 24))
    ends = [row.index(EOS) + 1 if EOS in row else 24 for row in tokens.tolist()]
    assert steps == len(fed) == max(ends) - 1
    assert fed == sorted(fed, reverse=True) and fed[-1] < fed[0]
    for step, rows in enumerate(fed, start=1):
        alive = sum(end > step for end in ends)
        assert alive <= rows and alive > 0.75 * rows


def test_a_batch_ends_with_its_last_row(make_family, features):
    """Every caption is empty: one look at the head, no forward pass."""
    model = make_family("llama")
    with torch.no_grad():
        model.llm.get_output_embeddings().weight.zero_()
        model.llm.model.norm.weight.zero_()
    model.llm.lm_head.bias = torch.nn.Parameter(torch.eye(300)[EOS], requires_grad=False)
    prompt = model.prompt_embeddings(features.batch(IDS[:2]))
    cache = DenseCache(layer_windows(model.llm.config), 2, prompt.shape[1] + 5)
    with torch.no_grad():
        tokens, steps = decode(model, cache, prefill(model, prompt, cache), Limits(EOS, 5))
    assert steps == 0 and tokens[:, 0].tolist() == [EOS, EOS]


def test_eos_first_is_an_empty_caption(make_family, features, numbers):
    model = make_family("qwen3")
    model.llm.lm_head.bias = torch.nn.Parameter(1e4 * torch.eye(300)[EOS], requires_grad=False)
    [caption] = generate_captions(model, numbers, ["a"], features.batch, max_new_tokens=5)
    assert (caption.text, caption.n_tokens, caption.truncated) == ("", 1, False)


def test_the_budget_truncates(make_family, features, numbers):
    model = make_family("qwen3", eos_bias=-99.0)
    captions = generate_captions(model, numbers, IDS[:3], features.batch, max_new_tokens=1)
    assert all(c.n_tokens == 1 and c.truncated for c in captions)
    assert ours(model, features, numbers, IDS[:3], 1) == reference(model, features, IDS[:3], 1)


def test_prompts_are_read_in_chunks(make_family, features, numbers, monkeypatch):
    from siglip_study.captioning import generate

    model = make_family("gemma3")
    whole = ours(model, features, numbers, IDS, 12)
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 30)  # two prompts of 13 positions
    assert generate.prefill_rows(13) == 2
    assert ours(model, features, numbers, IDS, 12) == whole


def test_a_model_with_other_layers_goes_through_transformers(
    make_family, features, numbers, monkeypatch
):
    model = make_family("llama", eos_bias=BIAS)
    expected = ours(model, features, numbers, IDS, 12, repetition_penalty=1.3)
    model.llm.config.attention_chunk_size = 4096
    assert layer_windows(model.llm.config) is None
    monkeypatch.setattr(decoding, "decode", None)
    assert ours(model, features, numbers, IDS, 12, repetition_penalty=1.3) == expected


def test_bf16_captions_equal_those_of_transformers_one_by_one(make_family, features, numbers):
    model = make_family("qwen3", dtype=torch.bfloat16)
    expected = reference(model, features, IDS[:1], 12)
    assert ours(model, features, numbers, IDS[:1], 12) == expected
