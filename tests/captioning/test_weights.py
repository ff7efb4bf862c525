"""Weights made ready for captions compute what peft and bitsandbytes computed."""

import pytest
import torch
from support.tiny_models import stir_adapters
from torch import nn

from siglip_study.captioning.weights import AdaptedLinear, settle_adapters, weights_for_captions
from siglip_study.models.llm import merge_adapters
from siglip_study.models.quantization import dequantize, dequantized_growth

IDS = ["a", "b", "c"]


@pytest.fixture
def far_from_fresh(make_model, llm_config):
    """Builder of a model whose adapters are not the identity."""

    def build(dora=False, quantization="none"):
        lora = llm_config.lora.model_copy(update={"dora": dora})
        config = llm_config.model_copy(update={"lora": lora, "quantization": quantization})
        model = make_model(lora=True, config=config)
        stir_adapters(model.llm)
        for name, parameter in model.llm.named_parameters():
            if "magnitude" in name:
                parameter.data.mul_(1 + 0.2 * torch.randn_like(parameter))
        return model.eval(), config

    return build


@torch.no_grad()
def loss(model, features):
    return model.caption_loss(features.batch(IDS), [[5, 6, 7, 2], [9, 2], [8, 8, 2]])[0]


@pytest.mark.parametrize("how", ["apart", "merged"])
@pytest.mark.parametrize("dora", [False, True])
def test_settled_adapters_give_the_same_loss(far_from_fresh, features, dora, how):
    model, _ = far_from_fresh(dora)
    before = loss(model, features)
    with model.llm.disable_adapter():
        assert not torch.allclose(loss(model, features), before, rtol=1e-2)
    model.llm = settle_adapters(model.llm, how)
    torch.testing.assert_close(loss(model, features), before, rtol=2e-5, atol=0)
    kinds = [type(m) for m in model.llm.modules() if isinstance(m, AdaptedLinear)]
    assert len(kinds) == (14 if how == "apart" else 0)
    assert not hasattr(model.llm, "get_base_model")
    assert not any(p.requires_grad for p in model.llm.parameters())


@pytest.mark.parametrize("dora", [False, True])
def test_a_bias_is_added_once_and_not_scaled(dora):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    net = get_peft_model(
        nn.Sequential(nn.Linear(6, 4)),
        LoraConfig(r=2, target_modules=["0"], use_dora=dora, init_lora_weights=False),
    ).eval()
    x = torch.randn(3, 5, 6)
    with torch.no_grad():
        if dora:
            net.base_model.model[0].lora_magnitude_vector["default"].weight.mul_(1.5)
        before = net(x)
        settled = settle_adapters(net, "apart")
        torch.testing.assert_close(settled(x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dora", [False, True])
def test_nf4_weights_are_unpacked_to_the_same_values(far_from_fresh, features, dora):
    packed_linear = pytest.importorskip("bitsandbytes").nn.Linear4bit
    model, config = far_from_fresh(dora, "nf4")
    assert weights_for_captions(model.llm, config) is model.llm  # on the CPU
    before = loss(model, features)
    packed = sum(m.weight.numel() for m in model.llm.modules() if isinstance(m, packed_linear))
    # Two values a byte before, two bytes a value after.
    assert dequantized_growth(model.llm) == 3 * packed
    model.llm = settle_adapters(model.llm, "merged")  # NF4 cannot take them up: they stay apart
    assert any(isinstance(m, AdaptedLinear) for m in model.llm.modules())
    torch.testing.assert_close(loss(model, features), before, rtol=1e-4, atol=0)
    dequantize(model.llm)
    assert dequantized_growth(model.llm) == 0
    assert not any(isinstance(m, packed_linear) for m in model.llm.modules())
    torch.testing.assert_close(loss(model, features), before, rtol=1e-4, atol=0)


def test_fp32_takes_up_its_adapters_exactly_as_a_checkpoint_does(far_from_fresh):
    ours, theirs = far_from_fresh(), far_from_fresh()
    ready = weights_for_captions(ours[0].llm, ours[1])
    merged = merge_adapters(theirs[0].llm, theirs[1])
    pairs = zip(ready.named_parameters(), merged.named_parameters(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
