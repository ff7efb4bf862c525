"""The loop: accumulation, normalisation, early stopping, which weights are kept."""

import math
from types import SimpleNamespace

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.training import loop
from siglip_study.training.step import make_optimizer


def weights(model):
    return {name: p.detach().clone() for name, p in model.trainable().items()}


@pytest.mark.parametrize("n", [12, 10, 9])  # three steps of four clips; the last ones ragged
def test_accumulation_changes_nothing(make_model, make_clips, train, n):
    ends = []
    for batch, accumulation, forward in ((4, 1, 99), (2, 2, 99), (1, 4, 99), (4, 1, 3)):
        model = make_model("mlp_2l", lora=True)
        position = train(
            model,
            make_clips(n),
            resume=f"{batch}-{forward}",
            forward=forward,
            epochs=1,
            batch_size=batch,
            gradient_accumulation=accumulation,
            keep="last",
        )
        assert position.step == 3
        ends.append(weights(model))
    for other in ends[1:]:
        for name, expected in ends[0].items():
            # As a whole: AdamW magnifies the rounding of single gradients near zero.
            assert float((other[name] - expected).norm() / expected.norm()) < 1e-5, name


def test_gradients_are_clipped_and_the_norm_before_is_recorded(make_model, train, monkeypatch):
    norms = []

    def note(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(math.sqrt(sum(float(g.pow(2).sum()) for g in gradients)))

    def spying(*made):
        optimizer = make_optimizer(*made)
        optimizer.register_step_pre_hook(note)
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", spying)
    position = train(make_model(), epochs=1, max_grad_norm=0.01)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)
    assert all(row["grad_norm"] > 0.01 for row in position.steps)


def test_histories_of_both_stages_have_the_same_columns(make_model, train):
    for number, lora in ((1, False), (2, True)):
        position = train(make_model("mlp_2l", lora=lora), number=number, resume=f"r{number}")
        for row in position.steps:
            both = row["grad_norm_projector"] ** 2 + row["grad_norm_lora"] ** 2
            assert math.sqrt(both) == pytest.approx(row["grad_norm"], rel=1e-5)
        for row in position.epochs:
            assert row["grad_share_projector"] + row["grad_share_lora"] == pytest.approx(1)
            assert (row["grad_share_lora"] > 0) == lora


def test_history_counts_clips_tokens_and_rates(make_model, make_clips, train):
    clips = make_clips(10)
    position = train(make_model(), clips, epochs=2, warmup_ratio=0.5)
    assert [row["step"] for row in position.steps] == [1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in position.steps] == [1, 1, 1, 2, 2, 2]
    assert [row["samples"] for row in position.steps] == [4, 4, 2] * 2
    tokens = sum(len(options[0]) for options in clips.captions)
    for epoch, row in enumerate(position.epochs, start=1):
        rows = [r for r in position.steps if r["epoch"] == epoch]
        assert sum(r["target_tokens"] for r in rows) == tokens
        mean = sum(r["loss"] * r["target_tokens"] for r in rows) / tokens
        assert row["train_loss"] == pytest.approx(mean)
    rates = [row["lr_projector"] for row in position.steps]
    assert max(rates) == 1e-2 and rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("keep", "kept"), [("val_loss", 1), ("last", 2)])
def test_the_weights_kept_are_the_best_epochs_or_the_last(make_model, train, script, keep, kept):
    script(3.0, 1.0, 2.0)
    seen = []
    model = make_model()
    position = train(
        model, epochs=3, keep=keep, diagnosis=lambda model: seen.append(weights(model)) or {}
    )
    assert position.best_epoch == 2
    assert [row["is_best"] for row in position.epochs] == [True, True, False]
    _, *after = seen  # the first look is before the first step
    assert all(torch.equal(p, after[kept][name]) for name, p in weights(model).items())
    assert not torch.equal(after[1]["projector.proj.weight"], after[2]["projector.proj.weight"])


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs"),
    [
        ([3.0, 2.0, 2.0, 2.0, 1.0], 2, 0.0, 4),  # two epochs without a fall
        ([3.0, 2.0, 1.99, 1.98, 0.1], 2, 0.1, 4),  # falls too small to count
        ([3.0, 2.94, 2.88, 2.82, 2.76], 2, 0.1, 5),  # small falls that add up
        ([3.0, 4.0, 2.0, 4.0, 1.0], 2, 0.0, 5),  # patience begins anew
        ([1.0, 2.0, 3.0], 1, 0.0, 2),
    ],
)
def test_early_stopping(make_model, make_clips, train, script, losses, patience, min_delta, epochs):
    script(*losses)
    position = train(
        make_model(),
        make_clips(2),
        epochs=len(losses),
        early_stopping={"patience": patience, "min_delta": min_delta},
    )
    assert len(position.epochs) == epochs
    assert position.stopped == (epochs < len(losses))
    assert position.best_val_loss == min(losses[:epochs])


def test_a_loss_that_is_not_finite_names_its_key(make_model, make_clips, features, train, script):
    nan = SimpleNamespace(batch=lambda ids: features.batch(ids) * float("nan"))
    with pytest.raises(StudyError, match=r"stage2: loss of step 1 is nan.*stage2\.learning_rate"):
        train(make_model(), make_clips(4, source=nan), number=2)
    script(float("inf"))
    sentence = r"^stage1: validation loss of epoch 1 is inf; expected [^\n]*\.$"
    with pytest.raises(StudyError, match=sentence):
        train(make_model(), resume="b")


def test_every_projector_takes_the_same_samples_in_the_same_order(
    make_model, make_clips, features, train
):
    orders = []
    for projector in ("linear", "constant_prefix", "query_abstractor"):
        read = []
        watched = SimpleNamespace(
            batch=lambda ids, read=read: read.extend(ids) or features.batch(ids)
        )
        train(make_model(projector), make_clips(7, source=watched), resume=projector)
        orders.append(read)
    first = orders[0]
    assert all(order == first for order in orders)
    assert sorted(first[:7]) == sorted(first[7:]) == sorted(make_clips(7).ids)
