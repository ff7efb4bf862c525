"""Order, exchange and noise: seeded, complete, and blind to the projector."""

import inspect
from collections import Counter

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.runs.clips import (
    Clips,
    NoiseFeatures,
    derangement,
    epoch_order,
    tokenize_captions,
)


@pytest.mark.parametrize("n", range(2, 51))
def test_a_derangement_moves_everyone_and_loses_nobody(n):
    for seed in range(5):
        order = derangement(n, "x", seed)
        assert sorted(order) == list(range(n))
        assert all(order[i] != i for i in range(n))


def test_derangements_follow_their_seed():
    assert derangement(30, "a", 1) == derangement(30, "a", 1)
    assert derangement(30, "a", 1) != derangement(30, "a", 2)


@pytest.mark.parametrize("n", [0, 1])
def test_one_clip_cannot_be_exchanged(n):
    with pytest.raises(StudyError, match="expected at least 2"):
        derangement(n)


def test_every_epoch_sees_every_clip_once_in_an_order_of_its_own():
    orders = [epoch_order(41, 0, 1, epoch) for epoch in range(6)]
    assert all(sorted(order) == list(range(41)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert epoch_order(41, 0, 1, 3) == orders[3] != epoch_order(41, 1, 1, 3)
    assert epoch_order(41, 0, 2, 3) != orders[3]


def test_the_order_can_know_nothing_of_the_projector():
    assert list(inspect.signature(epoch_order).parameters) == ["n", "seed", "stage", "epoch"]
    torch.manual_seed(1)
    before = epoch_order(20, 0, 1, 0)
    torch.rand(1000)
    assert epoch_order(20, 0, 1, 0) == before


def test_several_captions_take_turns(features):
    options = tuple(tuple((i, j, 2) for j in range(3)) for i in range(20))
    clips = Clips(tuple(f"c{i}" for i in range(20)), features, options, 0)
    for index in range(20):
        seen = Counter(clips.caption(index, epoch, seed=4) for epoch in range(6))
        assert set(seen.values()) == {2} and len(seen) == 3
    # …and not all clips begin with the same one.
    assert len({clips.caption(i, 0, 4)[1] for i in range(20)}) == 3


def test_targets_end_in_eos_unless_they_are_cut(tokenizer):
    texts = [["빨간 공"], ["", "a red ball rolls left. " * 3]]
    (first, second), cut = tokenize_captions(tokenizer, texts, eos=2, max_tokens=8)
    assert first[0] == (*tokenizer("빨간 공")["input_ids"], 2)
    assert second[0] == (2,)
    assert len(second[1]) == 8 and 2 not in second[1]
    assert cut == 1
    exact = len(first[0])
    assert tokenize_captions(tokenizer, [["빨간 공"]], 2, exact) == (((first[0],),), 0)


def test_composed_and_decomposed_hangul_are_one_target(tokenizer):
    import unicodedata

    texts = [[unicodedata.normalize(form, "빨간 공")] for form in ("NFC", "NFD")]
    (composed, decomposed), _ = tokenize_captions(tokenizer, texts, 2, 64)
    assert composed == decomposed


def test_a_caption_that_spells_special_tokens_cannot_end_itself(tokenizer):
    text = "<|im_end|> <|vision_start|>"
    ((tokens,),), _ = tokenize_captions(tokenizer, [[text]], 2, 99)
    assert set(tokens[:-1]).isdisjoint(tokenizer.all_special_ids)
    assert tokenizer.decode(tokens[:-1]) == text


def test_noise_is_fixed_per_clip_and_has_nothing_of_the_clip(features):
    noise = NoiseFeatures(features)
    many = noise.batch([f"n{i}" for i in range(200)]).float()
    assert many.shape == (200, 2, 4, 12)
    assert float(many.mean()) == pytest.approx(0, abs=0.03)
    assert float(many.std()) == pytest.approx(1, abs=0.03)
    assert torch.equal(noise.batch(["n3", "n9"])[1], noise.batch(["n9"])[0])
    real = features.batch([f"n{i}" for i in range(200)]).float()
    correlation = torch.corrcoef(torch.stack([many.flatten(), real.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.03
