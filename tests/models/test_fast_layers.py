"""Recomputed, compiled and lean layers compute what plain ones do; the chunked head, too."""

import functools
import math

import pytest
import torch
from support.kept import layer_settings
from support.tiny_models import stir_adapters
from support.tracing import untraced
from torch import nn

from siglip_study.captioning.generate import generate_captions
from siglip_study.config.training import LoraConfig
from siglip_study.models import fast_layers
from siglip_study.models.fast_layers import (
    decoder_layers,
    head_cross_entropy,
    keep,
    set_layers,
    use_lean_adapters,
)
from siglip_study.models.llm import add_lora

CAPTIONS = [[7, 8, 9, 10, 11, 2], [20, 2]]


def set_dropout(model, rate):
    for module in model.llm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = torch.nn.Dropout(rate)


@pytest.fixture
def trained(make_model):
    """An adapted model whose B is not zero: else A would have no gradient."""
    model = make_model(lora=True).train()
    stir_adapters(model.llm, std=0.2)
    return model


def gradients(model, features):
    model.zero_grad()
    losses, _ = model.caption_loss(features.batch(["a", "b"]), CAPTIONS)
    losses.sum().backward()
    return losses.detach(), {name: p.grad.clone() for name, p in model.trainable().items()}


def assert_same(model, features, losses, expected):
    again, found = gradients(model, features)
    torch.testing.assert_close(again, losses, rtol=1e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


# Recomputation and compilation.


@pytest.fixture
def compiler():
    """torch's compiler as new before and after."""
    torch.compiler.reset()
    fast_layers._compiled.cache_clear()
    with untraced():
        yield
    torch.compiler.reset()
    fast_layers._compiled.cache_clear()


@pytest.fixture
def no_code_generation(compiler, monkeypatch):
    """Trace and differentiate as a compilation does, without the need for a C compiler."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))


@pytest.mark.parametrize(
    # One layer recomputed, one not: compiled, both kinds in one run, for half a minute.
    ("compiled", "recomputed", "lora"),
    [(False, 1, False), (False, 2, False), (False, 1, True), (False, 2, True), (True, 1, True)],
)
def test_no_setting_changes_losses_or_gradients(
    make_model, features, compiled, recomputed, lora, no_code_generation
):
    model = make_model(lora=lora).train()
    losses, expected = gradients(model, features)
    set_layers(model.llm, compiled=compiled, recomputed=recomputed)
    assert layer_settings(model.llm) == (compiled, recomputed)
    assert_same(model, features, losses, expected)
    set_layers(model.llm, compiled=False, recomputed=0)
    assert torch.equal(gradients(model, features)[0], losses)


def test_recomputed_layers_run_again_in_the_backward_pass(make_model, features, monkeypatch):
    model = make_model().train()
    set_layers(model.llm, compiled=False, recomputed=1)
    calls = []
    plain = fast_layers._plain
    monkeypatch.setattr(fast_layers, "_plain", lambda *a, **k: calls.append(1) or plain(*a, **k))
    gradients(model, features)
    assert len(calls) == len(decoder_layers(model.llm)) + 1


@pytest.mark.parametrize("lean", [False, True])
def test_dropout_is_the_same_in_the_recomputation(trained, features, lean):
    set_dropout(trained, 0.5)
    if lean:
        use_lean_adapters(trained.llm)
    found = []
    for recomputed in (0, 2):
        set_layers(trained.llm, compiled=False, recomputed=recomputed)
        torch.manual_seed(5)
        found.append(gradients(trained, features)[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


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


# Lean adapters, against peft's own layers, and the masks they hash.


def test_without_dropout_losses_and_gradients_are_those_of_peft(trained, features):
    model = trained
    names = set(model.state_dict())
    losses, expected = gradients(model, features)
    use_lean_adapters(model.llm)
    assert set(model.state_dict()) == names
    assert_same(model, features, losses, expected)


def test_the_mean_over_masks_is_the_value_without_dropout(trained, features):
    """Inverted dropout keeps the expectation of a linear layer."""
    model = trained
    layer = model.llm.get_base_model().model.layers[0].self_attn.q_proj
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2))
    expected = layer(x)
    set_dropout(model, 0.3)
    use_lean_adapters(model.llm)
    torch.manual_seed(0)
    draws = []
    for _ in range(600):
        layer.dropout_seed.random_()
        draws.append(layer(x))
    spread = torch.stack(draws).std(0) / math.sqrt(len(draws))
    assert ((torch.stack(draws).mean(0) - expected).abs() < 4.5 * spread + 1e-6).all()
    assert (draws[0] - draws[1]).abs().max() > 0.01


def test_a_step_draws_new_masks_from_the_seed_of_torch(trained, features):
    model = trained
    set_dropout(model, 0.3)
    use_lean_adapters(model.llm)
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(gradients(model, features)[0])
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])
    model.eval()
    quiet = [model.caption_loss(features.batch(["a", "b"]), CAPTIONS)[0] for _ in range(2)]
    assert torch.equal(quiet[0], quiet[1])


def test_dora_keeps_the_layers_of_peft(llm_config, make_model, features):
    model = make_model()
    model.llm = add_lora(model.llm, LoraConfig(r=4, alpha=8, dropout=0.0, dora=True))
    losses, expected = gradients(model, features)
    use_lean_adapters(model.llm)
    again, found = gradients(model, features)
    assert torch.equal(losses, again)
    assert all(torch.equal(found[name], gradient) for name, gradient in expected.items())


ROWS, COLUMNS, RATE = 512, 4096, 0.05


def dropped(seed):
    return (~keep(torch.zeros(ROWS, COLUMNS), torch.tensor(seed, dtype=torch.int32), RATE)).float()


@pytest.mark.parametrize("seed", [0, 1, 12345, -77, 2**31 - 1])
def test_masks_look_random(seed):
    """Rates by row and column scatter as binomial ones; neighbours and next seeds are unrelated."""
    mask = dropped(seed)
    n = ROWS * COLUMNS
    assert float(mask.mean()) == pytest.approx(RATE, abs=5 * math.sqrt(RATE / n))
    for axis, size in ((0, ROWS), (1, COLUMNS)):
        expected = math.sqrt(RATE * (1 - RATE) / size)
        assert float(mask.mean(axis).std()) == pytest.approx(expected, rel=0.15)
    other = dropped((seed + 1) % 2**31)
    for pair in (mask * other, mask[:, 1:] * mask[:, :-1], mask[1:] * mask[:-1]):
        assert float(pair.mean()) == pytest.approx(RATE**2, abs=6 * RATE / math.sqrt(n))


def test_all_layers_share_one_compilation(trained, features, compiler):
    """A compilation a layer would take minutes, and past its limit torch gives up on compiling."""
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = trained
    set_dropout(model, 0.3)
    use_lean_adapters(model.llm)
    run = torch.compile(fast_layers._plain, backend=count, dynamic=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_layers, "_compiled", lambda: run)
        set_layers(model.llm, compiled=True, recomputed=0)
        gradients(model, features)
    assert len(graphs) == 1


# The chunked head, against torch's cross-entropy in fp64.

N, WIDTH, VOCABULARY = 7, 16, 50


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(N, WIDTH, generator=generator)
    targets = torch.randint(VOCABULARY, (N,), generator=generator)
    weights = torch.rand(N, generator=generator)
    head = nn.Linear(WIDTH, VOCABULARY, bias=True).requires_grad_(False)
    nn.init.normal_(head.weight, generator=generator)
    nn.init.normal_(head.bias, generator=generator)
    return hidden, head, targets, weights


def reference(hidden, head, targets, weights):
    hidden = hidden.double().requires_grad_()
    logits = hidden @ head.weight.double().T + head.bias.double()
    losses = nn.functional.cross_entropy(logits, targets, reduction="none")
    (losses * weights).sum().backward()
    return losses.detach(), hidden.grad


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_losses_and_gradients_are_those_of_the_full_logits(case, chunk, monkeypatch):
    monkeypatch.setattr(fast_layers, "CHUNK", chunk)
    hidden, head, targets, weights = case
    hidden = hidden.clone().requires_grad_()
    losses = head_cross_entropy(hidden, head, targets)
    (losses * weights).sum().backward()
    expected, gradient = reference(hidden.detach(), head, targets, weights)
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden.grad.double(), gradient, rtol=1e-5, atol=1e-6)
    assert head.weight.grad is None


def test_a_bf16_head_gives_fp32_losses_of_its_logits(case):
    hidden, head, targets, _ = case
    head = head.to(torch.bfloat16)
    losses = head_cross_entropy(hidden, head, targets)
    assert losses.dtype == torch.float32
    logits = head(hidden.bfloat16()).float()
    expected = nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_logits_far_from_zero_do_not_overflow():
    head = nn.Linear(1, 3, bias=False).requires_grad_(False)
    head.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0]]))
    hidden = torch.tensor([[1e4]], requires_grad=True)
    losses = head_cross_entropy(hidden, head, torch.tensor([0]))
    losses.sum().backward()
    assert losses.item() == 0.0 and hidden.grad.item() == 0.0


def test_a_factor_on_the_logits_counts_in_loss_and_gradient():
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 30)
    hidden, targets = torch.randn(5, 8, requires_grad=True), torch.tensor([1, 2, 3, 29, 0])
    losses = head_cross_entropy(hidden, head.requires_grad_(False), targets, 0.25)
    expected = torch.nn.functional.cross_entropy(0.25 * head(hidden), targets, reduction="none")
    torch.testing.assert_close(losses, expected)
    gradients = [torch.autograd.grad(loss.sum(), hidden)[0] for loss in (losses, expected)]
    torch.testing.assert_close(*gradients)
