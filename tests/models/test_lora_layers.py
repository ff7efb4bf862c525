"""The lean adapters against peft's own layers, and the masks they hash."""

import math

import pytest
import torch

from siglip_study.models import fast_layers
from siglip_study.models.fast_layers import keep, set_layers, use_lean_adapters

CAPTIONS = [[7, 8, 9, 10, 11, 2], [20, 2]]


def set_dropout(model, rate):
    for module in model.llm.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = torch.nn.Dropout(rate)


def trained(make_model):
    """An adapted model whose B is not zero: else A would have no gradient."""
    model = make_model(lora=True).train()
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return model


def gradients(model, features):
    model.zero_grad()
    losses, _ = model.caption_loss(features.batch(["a", "b"]), CAPTIONS)
    losses.sum().backward()
    return losses.detach(), {name: p.grad.clone() for name, p in model.trainable().items()}


def test_without_dropout_losses_and_gradients_are_those_of_peft(make_model, features):
    model = trained(make_model)
    losses, expected = gradients(model, features)
    use_lean_adapters(model.llm)
    again, found = gradients(model, features)
    torch.testing.assert_close(again, losses, rtol=1e-5, atol=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_mean_over_masks_is_the_value_without_dropout(make_model, features):
    """Inverted dropout keeps the expectation of a linear layer."""
    model = trained(make_model)
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


def test_a_step_draws_new_masks_from_the_seed_of_torch(make_model, features):
    model = trained(make_model)
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


def test_a_recomputed_layer_drops_the_same_elements(make_model, features):
    found = []
    for recomputed in (0, 2):
        model = trained(make_model)
        set_dropout(model, 0.3)
        use_lean_adapters(model.llm)
        set_layers(model.llm, compiled=False, recomputed=recomputed)
        torch.manual_seed(9)
        found.append(gradients(model, features)[1])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_nothing_new_is_saved(make_model):
    model = make_model(lora=True)
    names = set(model.state_dict())
    use_lean_adapters(model.llm)
    assert set(model.state_dict()) == names


def test_dora_keeps_the_layers_of_peft(llm_config, make_model, features):
    from siglip_study.config.training import LoraConfig
    from siglip_study.models.llm import add_lora

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


def test_a_rate_of_zero_keeps_everything():
    assert keep(torch.zeros(100), torch.tensor(3, dtype=torch.int32), 0.0).all()


def test_all_layers_share_one_compilation(make_model, features):
    """A compilation a layer would take minutes, and past its limit torch gives up on compiling."""
    torch.compiler.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = trained(make_model)
    set_dropout(model, 0.3)
    use_lean_adapters(model.llm)
    run = torch.compile(fast_layers._plain, backend=count, dynamic=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_layers, "_compiled", lambda: run)
        set_layers(model.llm, compiled=True, recomputed=0)
        gradients(model, features)
    torch.compiler.reset()
    assert len(graphs) == 1
