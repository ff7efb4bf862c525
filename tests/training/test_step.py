"""One optimizer step: its schedule, its rates, its share of the clips, and what it does."""

import hashlib
import math

import pytest
import torch

from siglip_study.base.seeds import derived_seed
from siglip_study.config.training import StageConfig
from siglip_study.runs.losses import forward_passes
from siglip_study.training.step import (
    lr_factor,
    make_optimizer,
    optimizer_step,
    set_rates,
    share_of,
)

STAGE = StageConfig(learning_rate=1e-3, lora_learning_rate=1e-4, weight_decay=0.1)

# ---- The learning rate, against values worked by hand, and the seeds.


def factors(total, warmup, floor=0.0):
    return [lr_factor(step, total, warmup, floor) for step in range(total)]


def test_values_worked_by_hand():
    half = math.sqrt(0.5)
    expected = [0.5, 1.0, 0.5 + half / 2, 0.5, 0.5 - half / 2, 0.0]
    assert factors(6, 1 / 3) == pytest.approx(expected, abs=1e-12)
    assert factors(4, 0.0, 0.2) == pytest.approx([0.2 + 0.8 * x for x in [
        0.5 + half / 2, 0.5, 0.5 - half / 2, 0.0]])  # fmt: skip


@pytest.mark.parametrize("total", [1, 2, 3, 7, 100, 999])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("floor", [0.0, 0.1, 1.0])
def test_it_rises_then_falls_to_its_floor_on_the_last_step(total, warmup, floor):
    values = factors(total, warmup, floor)
    rising = math.ceil(total * warmup)
    assert all(0 <= value <= 1 for value in values)
    assert values[:rising] == sorted(values[:rising])
    assert values[rising:] == sorted(values[rising:], reverse=True)
    if rising:
        assert values[rising - 1] == 1.0
    if rising < total:
        assert values[-1] == pytest.approx(floor, abs=1e-12)


def test_seeds_are_fixed_for_all_time_and_fit_every_generator():
    # First eight bytes of SHA-256, shifted by one.
    digest = hashlib.sha256(b"step/0/1/2").hexdigest()
    assert derived_seed("step", 0, 1, 2) == int(digest[:16], 16) >> 1
    seeds = {
        derived_seed("step", s, stage, k) for s in range(5) for stage in (1, 2) for k in range(50)
    }
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


# ---- Which parameters decay, and at which rate each learns.


def by_name(model, groups):
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


def test_biases_norms_and_queries_never_decay(make_model):
    model = make_model("query_abstractor", lora=True, queries=4, heads=4)
    placed = by_name(model, make_optimizer(model, STAGE).param_groups)
    assert set(placed) == set(model.trainable())
    for name, group in placed.items():
        free = name.endswith("bias") or "norm" in name or name == "projector.queries"
        assert group["weight_decay"] == (0.0 if free else 0.1), name


def test_dora_magnitudes_never_decay(make_model, llm_config):
    lora = llm_config.lora.model_copy(update={"dora": True, "targets": ("q_proj",)})
    model = make_model(lora=True, config=llm_config.model_copy(update={"lora": lora}))
    placed = by_name(model, make_optimizer(model, STAGE).param_groups)
    magnitudes = [name for name in placed if "magnitude" in name]
    assert magnitudes and all(placed[name]["weight_decay"] == 0 for name in magnitudes)
    assert all(placed[name]["part"] == "lora" for name in magnitudes)


def test_projector_and_adapters_have_rates_of_their_own(make_model):
    model = make_model(lora=True)
    optimizer = make_optimizer(model, STAGE)
    assert set_rates(optimizer, 0.5) == pytest.approx({"projector": 5e-4, "lora": 5e-5})
    for name, group in by_name(model, optimizer.param_groups).items():
        assert group["lr"] == pytest.approx(5e-5 if "lora_" in name else 5e-4)


def test_without_a_rate_of_their_own_adapters_take_the_projectors(make_model):
    stage = STAGE.model_copy(update={"lora_learning_rate": None})
    groups = make_optimizer(make_model(lora=True), stage).param_groups
    assert {group["peak"] for group in groups} == {1e-3}


def test_stage_one_reports_no_rate_for_adapters(make_model):
    optimizer = make_optimizer(make_model(), STAGE)
    assert set_rates(optimizer, 1.0) == {"projector": 1e-3, "lora": 0.0}


# ---- Which clips share a forward pass and a rank, and the step.


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
