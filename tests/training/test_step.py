"""Which clips share a forward pass and a rank, and what one optimizer step is."""

import pytest
import torch

from siglip_study.runs.losses import forward_passes
from siglip_study.training.step import optimizer_step, share_of


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("n", [1, 4, 7, 16])
def test_ranks_share_all_clips_evenly(n, ranks):
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(300, 700, (n,), generator=generator).tolist()
    shares = [share_of(lengths, rank, ranks) for rank in range(ranks)]
    assert sorted(clip for share in shares for clip in share) == list(range(n))
    counts = [len(share) for share in shares]
    assert max(counts) - min(counts) <= 1


def test_ranks_share_tokens():
    # Dealt to and fro: 700 + 400 against 600 + 500.
    lengths = [400, 700, 500, 600]
    assert [sum(lengths[i] for i in share_of(lengths, rank, 2)) for rank in (0, 1)] == [1100, 1100]


def test_passes_hold_captions_of_like_length_and_one_pass_keeps_the_order():
    assert forward_passes([3, 9, 5], 3) == [[0, 1, 2]]
    assert forward_passes([3, 9, 5, 8, 1], 2) == [[1, 3], [2, 0], [4]]


def test_a_step_on_given_batches_is_gradient_descent_on_the_mean_token(
    make_model, make_clips, accelerator
):
    """However the clips are batched; by hand: SGD on transformers' own mean loss."""
    clips = make_clips(5)
    captions = [options[0] for options in clips.captions]
    tokens = sum(map(len, captions))
    features = clips.features.batch(clips.ids)
    twin = make_model()
    sums, counts = twin.caption_loss(features, captions)
    mean = sums.sum() / counts.sum()
    mean.backward()
    expected = twin.projector.proj.weight - 0.1 * twin.projector.proj.weight.grad
    for passes in ([[0, 1, 2, 3, 4]], [[4, 0], [3, 1, 2]]):
        model = make_model()
        parameters = list(model.trainable().values())
        loss, norm = optimizer_step(
            model,
            ((features[rows], [captions[i] for i in rows]) for rows in passes),
            tokens,
            torch.optim.SGD(parameters, lr=0.1),
            parameters,
            accelerator,
            max_grad_norm=1e9,
        )
        torch.testing.assert_close(loss, mean.detach(), rtol=1e-5, atol=0)
        squares = sum(p.grad.pow(2).sum() for p in twin.trainable().values())
        torch.testing.assert_close(norm, squares.sqrt(), rtol=1e-4, atol=0)
        torch.testing.assert_close(
            model.projector.proj.weight, expected.detach(), rtol=1e-5, atol=1e-6
        )
        assert all(p.grad is None for p in parameters)
