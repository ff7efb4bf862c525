"""The loop: accumulation, normalisation, early stopping, which weights are kept."""

import math

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
    for batch, accumulation, forward in ((4, 1, None), (2, 2, None), (1, 4, None), (4, 1, 3)):
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

    def spying(*made):
        optimizer = make_optimizer(*made)
        optimizer.register_step_pre_hook(
            lambda o, *_: norms.append(
                math.sqrt(
                    sum(float(p.grad.pow(2).sum()) for g in o.param_groups for p in g["params"])
                )
            )
        )
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", spying)
    position = train(make_model(), epochs=1, max_grad_norm=0.01)
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)
    assert all(row["grad_norm"] > 0.01 for row in position.steps)


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


def test_validation_is_the_mean_over_tokens_whatever_the_batch(make_model, make_clips, accelerator):
    model, clips = make_model(), make_clips(5)
    captions = [options[0] for options in clips.captions]

    def batch(rows):
        return clips.features.batch([clips.ids[i] for i in rows])

    results = [loop.caption_losses(model, batch, captions, n, accelerator) for n in (1, 2, 5)]
    for sums, lengths in results:
        assert lengths == [len(caption) for caption in captions]
        assert sums == pytest.approx(results[0][0], rel=1e-5)


def test_keep_restores_the_best_epochs_weights(make_model, train, monkeypatch, script):
    script(3.0, 1.0, 2.0)
    seen = []
    made = loop._end_epoch
    monkeypatch.setattr(
        loop, "_end_epoch", lambda m, *rest: (seen.append(weights(m)), made(m, *rest))[1]
    )
    model = make_model()
    position = train(model, epochs=3, keep="val_loss")
    assert position.best_epoch == 2
    assert [row["is_best"] for row in position.epochs] == [True, True, False]
    assert all(torch.equal(p, seen[1][name]) for name, p in weights(model).items())
    assert not torch.equal(seen[1]["projector.proj.weight"], seen[2]["projector.proj.weight"])


def test_keep_last_keeps_the_last(make_model, train, script):
    script(1.0, 3.0)
    model = make_model()
    train(model, keep="last", resume="a")
    kept = weights(model)
    script(3.0, 1.0)
    other = make_model()
    train(other, keep="val_loss", resume="b")
    assert all(torch.equal(p, kept[name]) for name, p in weights(other).items())


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


def test_a_loss_that_is_not_finite_names_its_key(make_model, make_clips, train):
    clips = make_clips(4)

    class Broken:
        def batch(self, ids):
            return clips.features.batch(ids) * float("nan")

    broken = type(clips)(clips.ids, Broken(), clips.captions, 0)
    with pytest.raises(StudyError, match=r"stage2: loss of step 1 is nan.*stage2\.learning_rate"):
        train(make_model(), broken, number=2)


def test_a_validation_loss_that_is_not_finite_names_its_key(make_model, train, script):
    script(float("inf"))
    with pytest.raises(StudyError, match=r"stage1: validation loss of epoch 1 is inf") as error:
        train(make_model())
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_every_projector_takes_the_same_samples_in_the_same_order(make_model, make_clips, train):
    seen = {}
    for projector in ("linear", "constant_prefix", "query_abstractor"):
        clips = make_clips(7)
        asked = seen.setdefault(projector, [])

        class Watched:
            def batch(self, ids, asked=asked, source=clips.features):
                asked.extend(ids)
                return source.batch(ids)

        watched = type(clips)(clips.ids, Watched(), clips.captions, 0)
        train(make_model(projector), watched, resume=projector)
    first = seen["linear"]
    assert all(order == first for order in seen.values())
    assert sorted(first[:7]) == sorted(first[7:]) == sorted(make_clips(7).ids)
