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


def spoilt_features(features):
    return SimpleNamespace(
        batch=lambda ids: features.batch(ids) * (float("nan") if "clip2" in ids else 1.0)
    )


def spoil_language_model(model):
    with torch.no_grad():
        model.llm.get_parameter("model.layers.1.mlp.down_proj.weight")[0, 0] = float("nan")


def test_a_loss_that_is_not_finite_names_step_clips_and_cause(
    make_model, make_clips, features, train, script
):
    spoilt = make_clips(8, source=spoilt_features(features))
    with pytest.raises(StudyError, match=r"loss of step \d is nan \(clips clip2\), whose features"):
        train(make_model(), spoilt, epochs=1)
    model = make_model()
    spoil_language_model(model)
    with pytest.raises(StudyError, match=r"step 1 is nan \(clips .*language model gives none"):
        train(model, make_clips(4), resume="a")
    with pytest.raises(StudyError, match=r"stage2: .* is nan \(clips clip.*stage2\.learning_rate"):
        # Beyond what a config may say: so small a model takes all else.
        train(make_model(), number=2, resume="b", beyond={"learning_rate": 1e30})
    script(float("inf"))
    sentence = r"^stage1: validation loss of epoch 1 is inf \(clips clip100\), expected [^\n]*\.$"
    with pytest.raises(StudyError, match=sentence):
        train(make_model(), resume="c")


def without_room_for(monkeypatch, model, clips):
    """Passes of more clips than these find none, as on a GPU that somebody else fills."""
    plain = model.caption_loss

    def caption_loss(features, captions):
        if len(captions) > clips:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(features, captions)

    monkeypatch.setattr(model, "caption_loss", caption_loss)


def test_a_gpu_that_fills_up_gets_smaller_passes_of_the_same_steps(
    make_model, make_clips, train, monkeypatch
):
    small, full = make_model("mlp_2l", lora=True), make_model("mlp_2l", lora=True)
    one = train(small, make_clips(10), resume="one", batch_size=4, forward=1, keep="last")
    without_room_for(monkeypatch, full, 1)
    many = train(full, make_clips(10), resume="many", batch_size=4, keep="last")
    assert all(torch.equal(p, weights(full)[name]) for name, p in weights(small).items())
    timed = {"seconds"}
    for row, other in zip(one.steps, many.steps, strict=True):
        assert {k: v for k, v in row.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }
    without_room_for(monkeypatch, full, 0)
    with pytest.raises(StudyError, match=r"step 1 found no room .* for a pass of 1 clips"):
        train(full, make_clips(4), resume="none")


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
