"""Clips: seeded and complete in their order, blind to the projector, and read ahead unchanged."""

import threading
import unicodedata
from collections import Counter

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.runs.clips import (
    Clips,
    NoiseFeatures,
    caption_losses,
    derangement,
    epoch_order,
    forward_passes,
    prefetched,
    tokenize_captions,
)

CPU = torch.device("cpu")


def test_a_derangement_moves_everyone_and_loses_nobody():
    for n in range(2, 51):
        for seed in range(5):
            order = derangement(n, "x", seed)
            assert sorted(order) == list(range(n))
            assert all(order[i] != i for i in range(n))
    assert derangement(30, "a", 1) == derangement(30, "a", 1) != derangement(30, "a", 2)


@pytest.mark.parametrize("n", [0, 1])
def test_one_clip_cannot_be_exchanged(n):
    with pytest.raises(StudyError, match="expected at least 2"):
        derangement(n)


def test_every_epoch_sees_every_clip_once_in_an_order_of_its_own():
    orders = [epoch_order(41, 0, 1, epoch) for epoch in range(6)]
    assert all(sorted(order) == list(range(41)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    torch.manual_seed(1)  # it draws nothing from the global generator
    assert epoch_order(41, 0, 1, 3) == orders[3] != epoch_order(41, 1, 1, 3)
    assert epoch_order(41, 0, 2, 3) != orders[3]


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
    texts = [[unicodedata.normalize(form, "빨간 공")] for form in ("NFC", "NFD")]
    (composed, decomposed), _ = tokenize_captions(tokenizer, texts, 2, 64)
    assert composed == decomposed


def test_a_caption_that_spells_special_tokens_cannot_end_itself(tokenizer):
    text = "<|im_end|> <|vision_start|>"
    ((tokens,),), _ = tokenize_captions(tokenizer, [[text]], 2, 99)
    assert set(tokens[:-1]).isdisjoint(tokenizer.all_special_ids)
    assert tokenizer.decode(tokens[:-1]) == text


def test_noise_is_fixed_per_clip_and_has_nothing_of_the_clip(features):
    ids = [f"n{i}" for i in range(200)]
    made = NoiseFeatures(features)
    noise, real = made.batch(ids).float(), features.batch(ids).float()
    assert noise.shape == (200, 2, 4, 12)
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    assert torch.equal(made.batch(["n3", "n9"])[1], made.batch(["n9"])[0])
    correlation = torch.corrcoef(torch.stack([noise.flatten(), real.flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.03


# ---- Reading ahead: the same batches in the same order, errors where they belong, no thread left.


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_batches_come_in_order_and_unchanged():
    made = [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    state = torch.get_rng_state()
    with prefetched(range(20), made.__getitem__, CPU) as batches:
        got = list(batches)
    assert all(torch.equal(a, b) for a, b in zip(got, made, strict=True))
    assert not threads()
    assert torch.equal(torch.get_rng_state(), state)  # nothing drawn from the global seed


def test_reading_goes_no_further_ahead_than_its_depth():
    read, gate = [], threading.Event()

    def slow(item):
        read.append(item)
        if item == 2:
            gate.set()
        return torch.tensor(item)

    with prefetched(range(10), slow, CPU) as batches:
        assert next(batches) == 0
        assert gate.wait(10)  # one used, two ahead: items 0, 1, 2
        assert read == [0, 1, 2]
    assert len(read) <= 4 and not threads()


def test_an_error_is_raised_where_its_batch_is_used():
    def read(item):
        if item == 2:
            raise OSError("broken shard")
        return torch.tensor(item)

    seen = []
    with pytest.raises(OSError, match="broken shard"), prefetched(range(5), read, CPU) as batches:
        for batch in batches:
            seen.append(int(batch))
    assert seen == [0, 1] and not threads()


def test_leaving_early_ends_the_thread():
    with pytest.raises(KeyError), prefetched(range(1000), torch.tensor, CPU) as batches:
        next(batches)
        raise KeyError
    assert not threads()


@pytest.mark.gpu
def test_batches_arrive_whole_on_a_gpu_at_work():
    made = [torch.full((512, 1024), float(i)) for i in range(16)]
    device = torch.device("cuda")
    work = torch.randn(4096, 4096, device=device)
    sums = []
    with prefetched(range(16), made.__getitem__, device) as batches:
        for batch in batches:
            work = work @ work / work.norm()
            sums.append(batch.mean())
    assert torch.stack(sums).tolist() == list(range(16))


# ---- Losses of captions, a forward pass for those of like length.


def test_passes_hold_captions_of_like_length_and_one_pass_keeps_the_order():
    assert forward_passes([3, 9, 5], 3) == [[0, 1, 2]]
    assert forward_passes([3, 9, 5, 8, 1], 2) == [[1, 3], [2, 0], [4]]


def test_losses_are_the_same_whatever_the_batch(make_model, make_clips, accelerator):
    model, clips = make_model(), make_clips(5)
    captions = [options[0] for options in clips.captions]

    def batch(rows):
        return clips.features.batch([clips.ids[i] for i in rows])

    results = [caption_losses(model, batch, captions, n, accelerator) for n in (1, 2, 5)]
    for sums, lengths in results:
        assert lengths == [len(caption) for caption in captions]
        assert sums == pytest.approx(results[0][0], rel=1e-5)
