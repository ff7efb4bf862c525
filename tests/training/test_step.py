"""One optimizer step: its schedule, its rates, its share of the clips, and what it does."""

import hashlib
import math

import pytest
import torch
from torch import nn

from siglip_study.base.seeds import derived_seed
from siglip_study.config.training import StageConfig
from siglip_study.training.step import (
    gradient_norms,
    gradient_parts,
    gradient_shares,
    lr_factor,
    make_optimizer,
    norm_columns,
    optimizer_step,
    set_rates,
    share_of,
)

STAGE = StageConfig(learning_rate=1e-3, lora_learning_rate=1e-4, weight_decay=0.1)

# ---- The learning rate, and the seeds.


def factors(total, warmup, floor=0.0):
    return [lr_factor(step, total, warmup, floor) for step in range(total)]


def test_learning_rates_worked_by_hand():
    half = math.sqrt(0.5) / 2
    falling = [0.5 + half, 0.5, 0.5 - half, 0.0]
    assert factors(6, 1 / 3) == pytest.approx([0.5, 1.0, *falling], abs=1e-12)
    assert factors(4, 0.0, 0.2) == pytest.approx([0.2 + 0.8 * x for x in falling])


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
    seeds = {derived_seed("step", seed, step) for seed in range(10) for step in range(50)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


# ---- Which parameters decay, and at which rate each learns.


def groups_by_name(model, stage=STAGE):
    names = {id(p): n for n, p in model.named_parameters()}
    groups = make_optimizer(model, stage).param_groups
    return {names[id(p)]: group for group in groups for p in group["params"]}


def test_biases_norms_and_queries_never_decay(make_model):
    model = make_model("query_abstractor", lora=True, queries=4, heads=4)
    placed = groups_by_name(model)
    assert set(placed) == set(model.trainable())
    for name, group in placed.items():
        free = name.endswith("bias") or "norm" in name or name == "projector.queries"
        assert group["weight_decay"] == (0.0 if free else 0.1), name


def test_dora_magnitudes_never_decay(make_model, llm_config):
    lora = llm_config.lora.model_copy(update={"dora": True, "targets": ("q_proj",)})
    model = make_model(lora=True, config=llm_config.model_copy(update={"lora": lora}))
    magnitudes = {n: group for n, group in groups_by_name(model).items() if "magnitude" in n}
    assert magnitudes
    for group in magnitudes.values():
        assert group["weight_decay"] == 0 and group["part"] == "lora"


@pytest.mark.parametrize(
    ("lora", "lora_rate", "rates"),
    [
        (True, 1e-4, {"projector": 5e-4, "lora": 5e-5}),
        (True, None, {"projector": 5e-4, "lora": 5e-4}),  # the projector's
        (False, 1e-4, {"projector": 5e-4, "lora": 0.0}),  # stage 1 has no adapters
    ],
)
def test_projector_and_adapters_have_rates_of_their_own(make_model, lora, lora_rate, rates):
    stage = STAGE.model_copy(update={"lora_learning_rate": lora_rate})
    optimizer = make_optimizer(make_model(lora=lora), stage)
    assert set_rates(optimizer, 0.5) == pytest.approx(rates)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(rates[group["part"]])


# ---- Which clips a rank takes.


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


# ---- The step, and its gradients.


def test_a_step_on_given_batches_is_gradient_descent_on_the_mean_token(
    make_model, make_clips, accelerator
):
    """However the clips are batched; by hand: SGD on transformers' own mean loss."""
    clips = make_clips(5)
    captions = [options[0] for options in clips.captions]
    features = clips.features.batch(clips.ids)
    twin = make_model()
    sums, counts = twin.caption_loss(features, captions)
    mean = sums.sum() / counts.sum()
    mean.backward()
    weight = twin.projector.proj.weight
    expected = (weight - 0.1 * weight.grad).detach()
    squares = sum(p.grad.pow(2).sum() for p in twin.trainable().values())
    for passes in ([[0, 1, 2, 3, 4]], [[4, 0], [3, 1, 2]]):
        model = make_model()
        parameters = list(model.trainable().values())
        loss, norm = optimizer_step(
            model,
            ((features[rows], [captions[i] for i in rows]) for rows in passes),
            sum(map(len, captions)),
            torch.optim.SGD(parameters, lr=0.1),
            parameters,
            accelerator,
            max_grad_norm=1e9,
        )
        torch.testing.assert_close(loss, mean.detach(), rtol=1e-5, atol=0)
        torch.testing.assert_close(norm, squares.sqrt(), rtol=1e-4, atol=0)
        torch.testing.assert_close(
            model.projector.proj.weight.detach(), expected, rtol=1e-5, atol=1e-6
        )
        assert all(p.grad is None for p in parameters)


def test_shares_of_the_squared_norm_by_hand():
    """Norms 3 and 4 in the projector, 12 in the adapters: 25 of 169."""
    names = ("projector.proj.weight", "projector.norm.bias", "llm.lora_A", "llm.lora_B")
    made = {name: nn.Parameter(torch.zeros(1)) for name in names}
    for name, gradient in zip(names, (3.0, 4.0, 12.0), strict=False):  # one has none
        made[name].grad = torch.tensor([gradient])
    parts = gradient_parts(made)
    norms = gradient_norms(parts, torch.device("cpu")).tolist()
    assert norms == [3, 4, 12]
    row = norm_columns(list(parts), norms)
    assert row["grad_norm_projector"] == pytest.approx(5)
    assert gradient_shares([row, row]) == {
        "grad_share_projector": pytest.approx(25 / 169),
        "grad_share_projector.proj": pytest.approx(9 / 169),
        "grad_share_projector.norm": pytest.approx(16 / 169),
        "grad_share_lora": pytest.approx(144 / 169),
    }
    assert set(gradient_shares([dict.fromkeys(row, 0.0)]).values()) == {None}
