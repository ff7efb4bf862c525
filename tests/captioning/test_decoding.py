"""Batched captions against transformers' own greedy search and a loop without a cache."""

from types import SimpleNamespace

import pytest
import torch
from support.tiny_models import stir_adapters

from siglip_study.captioning import decoding, generate
from siglip_study.captioning.cache import DenseCache, layer_windows
from siglip_study.captioning.decoding import Batch, Limits, decode, prefill
from siglip_study.captioning.generate import Caption, finish, generate_captions
from siglip_study.config.training import LoraConfig
from siglip_study.models.llm import add_lora

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
    model = make_family("qwen3")
    before = torch.get_rng_state()
    assert ours(model, []) == []
    ours(model)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("row", "n_tokens", "truncated"),
    [([2], 1, False), ([5, 2, 0, 0], 2, False), ([5, 6, 7], 3, True), ([5, 2, 6, 2], 2, False)],
)
def test_captions_end_at_the_first_eos(numbers, row, n_tokens, truncated):
    kept = row[: row.index(EOS)] if EOS in row else row
    assert finish(row, EOS, numbers) == Caption(numbers.decode(kept), n_tokens, truncated)


# ---- Steps recorded as CUDA graphs give the captions that steps taken one by one give.


@pytest.mark.gpu
def test_recorded_steps_give_the_same_ids(make_family, ours, monkeypatch, family):
    """In fp64, in which the two kernels of attention agree on every token; rows leave on the way,
    and the position passes several bounds."""
    monkeypatch.setattr(decoding, "looks", lambda device: 3)
    monkeypatch.setattr(decoding, "_BOUND", 16)
    model = make_family(family, eos_bias=BIAS, dtype=torch.float64).to("cuda")
    recorded = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (recorded.append(graph), replay(graph))
    )
    plain = ours(model, limit=60, repetition_penalty=1.2, graphs=False)
    assert not recorded
    assert len(set(map(len, plain))) > 2
    assert ours(model, limit=60, repetition_penalty=1.2) == plain
    assert len(set(map(id, recorded))) > 2  # recorded anew, and replayed


@pytest.mark.gpu
def test_adapters_in_fp32_are_recorded_under_autocast(make_family, ours):
    """As captions are made between two epochs: what autocast casts once is not lost."""
    model = make_family("qwen3", dtype=torch.bfloat16)
    model.llm = add_lora(model.llm, LoraConfig(r=4))
    model = model.to("cuda")
    stir_adapters(model.llm, 0.3)
    ask = {"limit": 60, "repetition_penalty": 1.2}
    recorded, again = (ours(model, graphs=True, **ask) for _ in range(2))
    plain = ours(model, graphs=False, **ask)
    assert recorded == again
    # Two roundings of attention part sooner or later, but not at once.
    assert sum(a[:3] == b[:3] for a, b in zip(recorded, plain, strict=True)) >= 7


# ---- How many captions fit: against hand-worked sizes of Qwen3-8B.


def qwen3_8b(**changes):
    facts = {"num_hidden_layers": 36, "hidden_size": 4096, "intermediate_size": 12288}
    facts |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128}
    made = SimpleNamespace(**facts | {"vocab_size": 151936} | changes)
    made.get_text_config = lambda: made
    return made


def test_a_row_of_qwen3_8b():
    # 36 layers x 2 x 8 heads x 128 wide x 2 bytes = 147,456 bytes a position.
    length = 4640 + 768
    kv = 147_456 * length
    found = generate.row_bytes(qwen3_8b(), length, 2)
    assert kv < found < 1.03 * kv
    # An H200 with the weights in bf16 (139 GiB - 16 GB) takes all 97 clips of the study together.
    free = int(139 * 2**30 - 16.4e9)
    reserve = generate.prefill_bytes(qwen3_8b(), 4640, 2)
    assert 97 <= generate.rows_that_fit(free, found, reserve) < 160
    # A 12 GB card still takes some with an NF4 base of 6 GB at 64 video tokens.
    small = generate.row_bytes(qwen3_8b(), 96 + 768, 2)
    assert generate.rows_that_fit(int(6e9), small, generate.prefill_bytes(qwen3_8b(), 96, 2)) > 8


def test_rows_grow_with_memory_and_shrink_with_length():
    assert [generate.prefill_rows(length) for length in (4640, 96, 10**6)] == [3, 170, 1]
    fits = [generate.rows_that_fit(gib * 2**30, 10**8, 10**9) for gib in (1, 2, 8, 80)]
    assert fits == sorted(fits) and fits[0] == 1
    assert generate.rows_that_fit(10**10, 10**9, 0) == 9  # what fragments is left out
    short = generate.row_bytes(qwen3_8b(), 100, 2)
    assert short < generate.row_bytes(qwen3_8b(), 200, 2)
    assert short < generate.row_bytes(qwen3_8b(), 100, 4)


def test_models_that_do_not_name_every_size():
    """No grouped heads, no head width in the config: GPT-style defaults."""
    plain = qwen3_8b(num_key_value_heads=None, head_dim=None)
    same = qwen3_8b(num_key_value_heads=32, head_dim=128)
    assert generate.row_bytes(plain, 100, 2) == generate.row_bytes(same, 100, 2)


@pytest.mark.parametrize(
    ("n", "most", "sizes"),
    [(97, 96, [49, 48]), (97, 97, [97]), (97, 200, [97]), (5, 2, [2, 2, 1]), (1, 9, [1])],
)
def test_batches_are_even(n, most, sizes):
    assert generate.split_evenly(n, most) == sizes
