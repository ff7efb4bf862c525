"""Batched captions against transformers' own greedy search and a loop without a cache."""

import pytest
import torch

from siglip_study.captioning import decoding, generate
from siglip_study.captioning.cache import DenseCache, layer_windows
from siglip_study.captioning.decoding import Batch, Limits, decode, prefill
from siglip_study.captioning.generate import Caption, finish, generate_captions

pytestmark = pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`")
EOS = 2
BIAS = 2.5  # captions end now and then
IDS = [f"clip{i}" for i in range(9)]


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


@torch.no_grad()
def slow_greedy(model, prompt, limit):
    """One token at a time, everything computed anew for every token; EOS included."""
    tokens = []
    while len(tokens) < limit and model.layout.eos not in tokens:
        logits = model.llm(inputs_embeds=prompt, use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
        prompt = torch.cat([prompt, model.embed([[tokens[-1]]])], dim=1)
    return tokens


@pytest.fixture
def ours(features, numbers):
    """Token ids of captions up to EOS, by the code under test."""

    def ask(model, ids=IDS, limit=24, **options):
        found = generate_captions(
            model, numbers, ids, features.batch, max_new_tokens=limit, **options
        )
        return [[int(token) for token in caption.text.split()] for caption in found]

    return ask


@pytest.fixture
def read(features):
    """Hidden states after the prompts of some clips, and the cache that holds them."""

    @torch.no_grad()
    def prompts(model, ids, room):
        prompt = model.prompt_embeddings(features.batch(ids))
        cache = DenseCache(layer_windows(model.llm.config), len(ids), prompt.shape[1] + room)
        hidden = prefill(model, prompt, cache)
        return cache, hidden

    return prompts


# ---- The same ids, however the work is cut.


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_ids_equal_those_of_transformers(make_family, features, ours, family, penalty):
    model = make_family(family, eos_bias=BIAS)
    expected = reference(model, features, IDS, 24, penalty)
    lengths = {len(row) for row in expected}
    assert len(lengths) > 2 and 24 in lengths  # some end early, some never
    for size in (1, 4, 9, 50, None):
        assert ours(model, batch_size=size, repetition_penalty=penalty) == expected, size


@pytest.mark.parametrize("lora", [False, True])
def test_captions_equal_those_of_a_loop_without_cache(make_model, features, tokenizer, lora):
    model = make_model(lora=lora).eval()
    with torch.no_grad():
        model.llm.get_output_embeddings().weight[model.layout.eos] *= 1.5  # else none would end
    ask = {"max_new_tokens": 12, "batch_size": 3}
    captions = generate_captions(model, tokenizer, IDS, features.batch, **ask)
    assert len({caption.text for caption in captions}) > 3  # else equality says little
    for clip, caption in zip(IDS, captions, strict=True):
        tokens = slow_greedy(model, model.prompt_embeddings(features.batch([clip])), 12)
        ended = tokens[-1] == model.layout.eos
        text = tokenizer.decode(tokens[: len(tokens) - ended], skip_special_tokens=True).strip()
        assert caption == Caption(text, len(tokens), not ended)
    assert {caption.truncated for caption in captions} == {True, False}


def test_bf16_captions_equal_those_of_transformers_one_by_one(make_family, features, ours):
    model = make_family("qwen3", dtype=torch.bfloat16)
    assert ours(model, IDS[:1], 12) == reference(model, features, IDS[:1], 12)


@pytest.mark.parametrize("interval", [1, 3, 16])
def test_when_rows_leave_changes_nothing(make_family, features, ours, monkeypatch, interval):
    """On a GPU the host looks only now and then: rows are decoded beyond their end."""
    model = make_family("qwen3", eos_bias=BIAS)
    expected = reference(model, features, IDS, 24)
    monkeypatch.setattr(decoding, "looks", lambda device: interval)
    for leaves in (0.01, 0.25, 1.0):
        monkeypatch.setattr(decoding, "_LEAVES", leaves)
        assert ours(model) == expected


@pytest.mark.parametrize("family", ["qwen3", "gemma3_short_window"])
def test_recorded_steps_cross_their_bounds(make_family, ours, monkeypatch, family):
    model = make_family(family, eos_bias=BIAS)
    expected = ours(model)
    for bound in (1, 3, 8):
        monkeypatch.setattr(decoding, "_BOUND", bound)
        assert ours(model, graphs=True) == expected
    assert model.llm.config._attn_implementation == "sdpa"


def test_prompts_are_read_in_chunks(make_family, ours, monkeypatch):
    model = make_family("gemma3")
    whole = ours(model)
    monkeypatch.setattr(generate, "PREFILL_TOKENS", 30)  # two prompts of 13 positions
    assert generate.prefill_rows(13) == 2
    assert ours(model) == whole


def test_a_model_with_other_layers_goes_through_transformers(make_family, ours, monkeypatch):
    model = make_family("llama", eos_bias=BIAS)
    expected = ours(model, repetition_penalty=1.3)
    model.llm.config.attention_chunk_size = 4096
    assert layer_windows(model.llm.config) is None
    monkeypatch.setattr(decoding, "decode", None)
    assert ours(model, repetition_penalty=1.3) == expected


def test_a_generation_config_that_samples_is_overruled(make_family, ours):
    model = make_family("llama")
    model.llm.config.attention_chunk_size = 4096  # through transformers
    plain = ours(model, IDS[:2], 6)
    model.llm.generation_config.update(
        do_sample=True, temperature=5.0, top_k=7, num_beams=3, use_cache=False, eos_token_id=[5, 6]
    )
    assert ours(model, IDS[:2], 6) == plain == ours(model, IDS[:2], 6)


# ---- The cache, and the rows that leave it.


def test_what_lies_beyond_the_position_is_a_number(make_family, read):
    """A recorded step reads masked positions that nothing has written yet."""
    cache, _ = read(make_family("qwen3"), IDS[:2], 51)
    for layer in cache.layers:
        assert not layer.keys[:, :, 13:].any() and not layer.values[:, :, 13:].any()
        assert layer.keys[:, :, :13].all()


def test_finished_rows_leave_the_batch(make_family, read, monkeypatch):
    model = make_family("qwen3", eos_bias=BIAS)
    fed = []
    feed = Batch.feed
    monkeypatch.setattr(
        Batch, "feed", lambda self, *args: fed.append(len(self.last)) or feed(self, *args)
    )
    cache, hidden = read(model, IDS, 24)
    cache.advance(13)
    with torch.no_grad():
        tokens, steps = decode(model, cache, hidden, Limits(EOS, 24))
    ends = [row.index(EOS) + 1 if EOS in row else 24 for row in tokens.tolist()]
    assert steps == len(fed) == max(ends) - 1
    assert fed == sorted(fed, reverse=True) and fed[-1] < fed[0]
    for step, rows in enumerate(fed, start=1):
        alive = sum(end > step for end in ends)
        assert alive <= rows and alive > 0.75 * rows


def test_captions_that_are_all_empty_take_no_forward_pass(make_family, read, ours):
    model = make_family("llama")
    model.llm.lm_head.bias = torch.nn.Parameter(1e4 * torch.eye(300)[EOS], requires_grad=False)
    cache, hidden = read(model, IDS[:2], 5)
    with torch.no_grad():
        tokens, steps = decode(model, cache, hidden, Limits(EOS, 5))
    assert steps == 0 and tokens[:, 0].tolist() == [EOS, EOS]
    assert ours(model, IDS[:2]) == [[], []]


def test_the_budget_truncates(make_family, features, numbers):
    model = make_family("qwen3", eos_bias=-99.0)
    captions = generate_captions(model, numbers, IDS[:3], features.batch, max_new_tokens=1)
    assert all(c.n_tokens == 1 and c.truncated for c in captions)
    assert [[int(c.text)] for c in captions] == reference(model, features, IDS[:3], 1)


def test_captioning_draws_no_random_number(make_family, ours):
    before = torch.get_rng_state()
    model = make_family("qwen3")
    torch.set_rng_state(before)
    ours(model)
    assert torch.equal(before, torch.get_rng_state())


def test_no_clips_no_captions(make_family, ours):
    assert ours(make_family("qwen3"), []) == []


@pytest.mark.parametrize(
    ("row", "n_tokens", "truncated"),
    [([2], 1, False), ([5, 2, 0, 0], 2, False), ([5, 6, 7], 3, True), ([5, 2, 6, 2], 2, False)],
)
def test_captions_end_at_the_first_eos(numbers, row, n_tokens, truncated):
    kept = row[: row.index(EOS)] if EOS in row else row
    assert finish(row, EOS, numbers) == Caption(numbers.decode(kept), n_tokens, truncated)
