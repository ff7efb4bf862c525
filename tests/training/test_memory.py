"""The plan that fits the memory: bounds, order and the sentence when nothing fits."""

import pytest

from siglip_study.config import RuntimeConfig
from siglip_study.errors import StudyError
from siglip_study.llm_layers import layer_settings
from siglip_study.training.memory import GIB, ClipCost, fit, plan_memory

# A clip of 4,900 tokens in front of an 8 B model of 36 layers, roughly.
LONG = ClipCost(recomputed=2.5 * GIB, kept_layer=0.45 * GIB, validated=0.8 * GIB, tokens=4900)
SHORT = ClipCost(recomputed=0.5 * GIB, kept_layer=0.05 * GIB, validated=0.1 * GIB, tokens=560)
LAYERS = 36


def needed(plan, cost):
    return plan.forward_clips * (cost.recomputed + (LAYERS - plan.recomputed) * cost.kept_layer)


@pytest.mark.parametrize("cost", [LONG, SHORT])
@pytest.mark.parametrize("free", [2.6, 5, 9, 16, 24, 40, 70, 130])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_plan_stays_within_the_memory(cost, free, batch):
    plan = fit(cost, free * GIB, batch, 32, LAYERS)
    assert 1 <= plan.forward_clips <= batch and 0 <= plan.recomputed <= LAYERS
    assert needed(plan, cost) <= free * GIB * (1 + 1e-9)
    assert plan.eval_clips * cost.validated <= free * GIB


def test_with_room_for_everything_nothing_is_cut_or_recomputed():
    plan = fit(LONG, 1000 * GIB, 4, 32, LAYERS)
    assert (plan.forward_clips, plan.recomputed, plan.eval_clips) == (4, 0, 32)


def test_long_sequences_are_cut_before_layers_are_recomputed():
    """One clip of 4,900 tokens keeps a GPU busy; running layers twice costs a third more."""
    plan = fit(LONG, 20 * GIB, 4, 32, LAYERS)
    assert plan.forward_clips == 1 and plan.recomputed == 0


def test_more_memory_never_recomputes_more_work():
    work = []
    for free in range(3, 140):
        plan = fit(LONG, free * GIB, 4, 32, LAYERS)
        passes = -(-4 // plan.forward_clips)
        work.append(passes * 400 + 4 * 4900 * (1 + 0.5 * plan.recomputed / LAYERS))
    assert work == sorted(work, reverse=True)


def test_a_clip_that_does_not_fit_is_said_in_one_sentence():
    with pytest.raises(StudyError, match=r"2\.0 GiB are free .* one clip needs 2\.5"):
        fit(LONG, 2 * GIB, 4, 32, LAYERS)


@pytest.mark.parametrize(("checkpointing", "recomputed"), [("auto", 0), ("none", 0), ("all", 2)])
def test_on_the_cpu_the_plan_is_what_the_config_says(
    make_model, features, accelerator, checkpointing, recomputed
):
    model = make_model()
    runtime = RuntimeConfig(checkpointing=checkpointing)
    plan = plan_memory(model, features.batch(["a"]), [5, 2], 4, 9, runtime, accelerator.autocast)
    assert (plan.forward_clips, plan.recomputed, plan.eval_clips) == (4, recomputed, 9)
    assert layer_settings(model.llm) == (False, recomputed)
