"""Recomputed and compiled layers compute what plain ones do."""

import functools

import pytest
import torch

from siglip_study.captioning.generate import generate_captions
from siglip_study.models import fast_layers
from siglip_study.models.fast_layers import decoder_layers, layer_settings, set_layers

CAPTIONS = [[7, 8, 9, 10, 11, 2], [20, 2]]


@pytest.fixture
def no_code_generation(monkeypatch):
    """Trace and differentiate as a compilation does, without the need for a C compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    fast_layers._compiled.cache_clear()
    yield
    torch.compiler.reset()
    fast_layers._compiled.cache_clear()


def gradients(model, features):
    model.zero_grad()
    losses, _ = model.caption_loss(features.batch(["a", "b"]), CAPTIONS)
    losses.sum().backward()
    found = {name: p.grad.clone() for name, p in model.trainable().items()}
    return losses.detach(), found


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("compiled", "recomputed"), [(False, 1), (False, 2), (True, 0), (True, 1), (True, 2)]
)
def test_no_setting_changes_losses_or_gradients(
    make_model, features, lora, compiled, recomputed, no_code_generation
):
    model = make_model(lora=lora).train()
    losses, expected = gradients(model, features)
    set_layers(model.llm, compiled=compiled, recomputed=recomputed)
    assert layer_settings(model.llm) == (compiled, recomputed)
    again, found = gradients(model, features)
    torch.testing.assert_close(again, losses, rtol=1e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_recomputed_layers_run_again_in_the_backward_pass(make_model, features, monkeypatch):
    model = make_model().train()
    set_layers(model.llm, compiled=False, recomputed=1)
    calls = []
    plain = fast_layers._plain
    monkeypatch.setattr(fast_layers, "_plain", lambda *a, **k: calls.append(1) or plain(*a, **k))
    gradients(model, features)
    assert len(calls) == len(decoder_layers(model.llm)) + 1


def test_dropout_is_the_same_in_the_recomputation(make_model, features):
    found = []
    for recomputed in (0, 2):
        model = make_model(lora=True).train()
        for module in model.llm.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        set_layers(model.llm, compiled=False, recomputed=recomputed)
        torch.manual_seed(5)
        found.append(gradients(model, features)[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_settings_can_be_changed_and_taken_back(make_model, features, no_code_generation):
    model = make_model()
    before = gradients(model, features)[0]
    set_layers(model.llm, compiled=True, recomputed=2)
    set_layers(model.llm, compiled=False, recomputed=0)
    assert layer_settings(model.llm) == (False, 0)
    torch.testing.assert_close(gradients(model, features)[0], before, rtol=0, atol=0)


def test_captions_do_not_depend_on_the_settings(make_model, features, tokenizer):
    model = make_model(lora=True)
    model.llm.train()

    def captions():
        made = generate_captions(
            model, tokenizer, ["a", "b"], features.batch, max_new_tokens=6, batch_size=2
        )
        return [caption.text for caption in made]

    before = captions()
    set_layers(model.llm, compiled=False, recomputed=2)
    assert captions() == before
