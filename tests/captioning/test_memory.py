"""How many captions fit: against hand-worked sizes of Qwen3-8B."""

from types import SimpleNamespace

import pytest

from siglip_study.captioning import generate


def config(**changes):
    facts = {
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "vocab_size": 151936,
    }
    made = SimpleNamespace(**facts | changes)
    made.get_text_config = lambda: made
    return made


def test_a_row_of_qwen3_8b():
    # 36 layers x 2 x 8 heads x 128 wide x 2 bytes = 147,456 bytes a position.
    length = 4640 + 768
    kv = 147_456 * length
    found = generate.row_bytes(config(), length, 2)
    assert kv < found < 1.03 * kv
    # An H200 with the weights in bf16 (139 GiB - 16 GB) takes all 97 clips of the study together.
    free = int(139 * 2**30 - 16.4e9)
    reserve = generate.prefill_bytes(config(), 4640, 2)
    assert 97 <= generate.rows_that_fit(free, found, reserve) < 160
    # A 12 GB card still takes some with an NF4 base of 6 GB at 64 video tokens.
    small = generate.row_bytes(config(), 96 + 768, 2)
    assert generate.rows_that_fit(int(6e9), small, generate.prefill_bytes(config(), 96, 2)) > 8


def test_rows_grow_with_memory_and_shrink_with_length():
    fits = [generate.rows_that_fit(gib * 2**30, 10**8, 10**9) for gib in (1, 2, 8, 80)]
    assert fits == sorted(fits) and fits[0] == 1
    assert generate.rows_that_fit(10**10, 10**9, 0) == 9  # what fragments is left out
    assert generate.row_bytes(config(), 100, 2) < generate.row_bytes(config(), 200, 2)
    assert generate.row_bytes(config(), 100, 2) < generate.row_bytes(config(), 100, 4)


def test_models_that_do_not_name_every_size():
    """No grouped heads, no head width in the config: GPT-style defaults."""
    plain = config(num_key_value_heads=None, head_dim=None)
    same = config(num_key_value_heads=32, head_dim=128)
    assert generate.row_bytes(plain, 100, 2) == generate.row_bytes(same, 100, 2)


@pytest.mark.parametrize(
    ("n", "most", "sizes"),
    [(97, 96, [49, 48]), (97, 97, [97]), (97, 200, [97]), (5, 2, [2, 2, 1]), (1, 9, [1])],
)
def test_batches_are_even(n, most, sizes):
    assert generate.split_evenly(n, most) == sizes


def test_prompts_of_a_forward_pass():
    assert generate.prefill_rows(4640) == 3
    assert generate.prefill_rows(96) == 170
    assert generate.prefill_rows(10**6) == 1
