"""Which parameters decay, and at which rate each learns."""

import pytest
import torch

from siglip_study.config.training import StageConfig
from siglip_study.training.step import make_optimizer, parameter_groups, set_rates

STAGE = StageConfig(learning_rate=1e-3, lora_learning_rate=1e-4, weight_decay=0.1)


def groups_of(model, stage=STAGE):
    no_decay = {f"projector.{name}" for name in model.projector.no_decay_parameters()}
    return parameter_groups(model.trainable(), no_decay, stage)


def by_name(model, groups):
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: group for group in groups for p in group["params"]}


def test_biases_norms_and_queries_never_decay(make_model):
    model = make_model("query_abstractor", lora=True, queries=4, heads=4)
    placed = by_name(model, groups_of(model))
    assert set(placed) == set(model.trainable())
    for name, group in placed.items():
        free = name.endswith("bias") or "norm" in name or name == "projector.queries"
        assert group["weight_decay"] == (0.0 if free else 0.1), name


def test_dora_magnitudes_never_decay(make_model, llm_config):
    lora = llm_config.lora.model_copy(update={"dora": True, "targets": ("q_proj",)})
    model = make_model(lora=True, config=llm_config.model_copy(update={"lora": lora}))
    placed = by_name(model, groups_of(model))
    magnitudes = [name for name in placed if "magnitude" in name]
    assert magnitudes and all(placed[name]["weight_decay"] == 0 for name in magnitudes)
    assert all(placed[name]["part"] == "lora" for name in magnitudes)


def test_projector_and_adapters_have_rates_of_their_own(make_model):
    model = make_model(lora=True)
    optimizer = make_optimizer(groups_of(model), torch.device("cpu"))
    assert set_rates(optimizer, 0.5) == pytest.approx({"projector": 5e-4, "lora": 5e-5})
    for name, group in by_name(model, optimizer.param_groups).items():
        assert group["lr"] == pytest.approx(5e-5 if "lora_" in name else 5e-4)


def test_without_a_rate_of_their_own_adapters_take_the_projectors(make_model):
    stage = STAGE.model_copy(update={"lora_learning_rate": None})
    groups = groups_of(make_model(lora=True), stage)
    assert {group["peak"] for group in groups} == {1e-3}


def test_stage_one_reports_no_rate_for_adapters(make_model):
    optimizer = make_optimizer(groups_of(make_model()), torch.device("cpu"))
    assert set_rates(optimizer, 1.0) == {"projector": 1e-3, "lora": 0.0}
