"""The plan that fits the memory: bounds, order and the sentence when nothing fits."""

import pytest
import torch
from support.kept import layer_settings

from siglip_study.base.errors import StudyError
from siglip_study.config.study import RuntimeConfig
from siglip_study.training.memory import GIB, ClipCost, clip_cost, fit, plan_memory

LAYERS = 36
# A clip of 4,900 tokens in front of an 8 B model of 36 layers, roughly.
LONG = ClipCost(2.5 * GIB, 2.1 * GIB, 0.45 * GIB, 0.8 * GIB, 0.01 * GIB, 4900)
SHORT = ClipCost(0.5 * GIB, 0.45 * GIB, 0.05 * GIB, 0.1 * GIB, 0.01 * GIB, 560)


def plan(free, cost=LONG, batch=4, kept=range(LAYERS + 1), growth=0.0, eval_batch=32):
    """The plan within so many GiB."""
    return fit(cost, free * GIB, batch, eval_batch, LAYERS, kept, growth)


@pytest.mark.parametrize("cost", [LONG, SHORT])
@pytest.mark.parametrize("free", [2.6, 5, 9, 16, 24, 40, 70, 130])
@pytest.mark.parametrize("batch", [1, 4, 16])
def test_a_plan_stays_within_the_memory(cost, free, batch):
    made = plan(free, cost, batch)
    assert 1 <= made.forward_clips <= batch and 0 <= made.recomputed <= LAYERS
    assert made.forward_clips * cost.of_pass(LAYERS - made.recomputed) <= free * GIB
    assert made.eval_clips * cost.of_validation() <= free * GIB


@pytest.mark.parametrize(
    ("free", "clips"),
    [
        (1000, 4),  # nothing is cut
        # One clip of 4,900 tokens keeps a GPU busy; running layers twice costs a third more.
        (20, 1),
    ],
)
def test_long_sequences_are_cut_before_layers_are_recomputed(free, clips):
    made = plan(free)
    assert (made.forward_clips, made.recomputed) == (clips, 0)


def test_more_memory_never_recomputes_more_work():
    work = []
    for made in map(plan, range(3, 140)):
        passes = -(-4 // made.forward_clips)
        work.append(passes * 400 + 4 * 4900 * (1 + 0.5 * made.recomputed / LAYERS))
    assert work == sorted(work, reverse=True)


@pytest.mark.parametrize(
    ("free", "kept", "sentence"),
    [
        (2, range(LAYERS + 1), r"2\.0 GiB are free .* one clip needs"),
        (2, [0], r"2\.0 GiB are free .* one clip needs"),
        # Where recomputing would do, but all layers must be kept.
        (10, [LAYERS], r"10\.0 GiB are free .* one clip needs 18\."),
    ],
)
def test_a_clip_that_does_not_fit_is_said_in_one_sentence(free, kept, sentence):
    assert plan(10).recomputed > 0
    with pytest.raises(StudyError, match=sentence):
        plan(free, kept=kept)


def test_weights_are_unpacked_where_nothing_else_needs_the_room():
    need, growth = 4 * LONG.of_pass(LAYERS), 10 * GIB
    roomy = plan((need + growth) / GIB, growth=growth, eval_batch=10**6)
    assert roomy.unpacked and roomy.eval_clips == int(need // LONG.of_validation())
    assert not plan((need + growth - 1) / GIB, growth=growth).unpacked
    assert not plan(1000).unpacked


class Card:
    """A GPU on which a clip's peak is that of checkpointing as it works."""

    checkpoint, layer, head = 0.04, 0.45, 0.3

    def __init__(self, memory=1e9):
        self.memory = memory

    def __call__(self, recomputed, backward):
        if not backward:
            return 0.8 * GIB
        kept = LAYERS - recomputed
        forward = recomputed * self.checkpoint + kept * self.layer + self.head
        again = recomputed * self.checkpoint + self.layer if recomputed else 0.0
        peak = max(forward, again)
        if peak > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return peak * GIB


def test_a_plan_made_from_trial_passes_holds_what_the_passes_really_need():
    card = Card()
    cost = clip_cost(card, LAYERS, 0.0, 4900)
    for kept in range(LAYERS + 1):
        truth = card(LAYERS - kept, True)
        assert truth <= cost.of_pass(kept) * (1 + 1e-9) <= 1.25 * truth


def test_a_trial_that_runs_out_of_memory_keeps_fewer_layers_or_ends_in_a_sentence():
    tight = clip_cost(Card(memory=2.7), LAYERS, 0.0, 4900)
    assert tight.kept_layer == pytest.approx((Card.layer - Card.checkpoint) * GIB)
    tighter = clip_cost(Card(memory=2.0), LAYERS, 0.0, 4900)
    assert plan(2, tighter).recomputed == LAYERS
    with pytest.raises(StudyError, match=r"does not hold one clip of 4900 tokens .*out of memory"):
        clip_cost(Card(memory=1.0), LAYERS, 0.0, 4900)


@pytest.mark.parametrize(("checkpointing", "recomputed"), [("auto", 0), ("none", 0), ("all", 2)])
def test_on_the_cpu_the_plan_is_what_the_config_says(
    make_model, features, accelerator, checkpointing, recomputed
):
    model = make_model()
    runtime = RuntimeConfig(checkpointing=checkpointing)
    made = plan_memory(model, features.batch(["a"]), [5, 2], 4, 9, runtime, accelerator.autocast)
    assert (made.forward_clips, made.recomputed, made.eval_clips) == (4, recomputed, 9)
    assert layer_settings(model.llm) == (False, recomputed)
