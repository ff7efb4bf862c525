"""The measurement of rounding: nothing in fp32, something in bf16, most where adapters are gone."""

import pytest
import torch
from support.tiny_models import stir_adapters

from benchmarks.exactness import adapter_rounding, compare

CAPTIONS = [[5, 6, 7, 2], [9, 2], [8, 8, 12, 13, 2]]


@pytest.fixture
def adapted(make_model):
    model = make_model(lora=True).eval()
    stir_adapters(model.llm)
    return model


def test_fp32_loses_nothing(adapted, features):
    llm = adapted.llm
    found = adapter_rounding(adapted, features.batch(["a", "b", "c"]), CAPTIONS)
    assert adapted.llm is llm
    for name in ("apart", "merged"):
        assert abs(found[name].kl) < 1e-6 and found[name].largest < 1e-3
        assert found[name].agreement == 1.0
    assert found["absent"].kl > 1e-3


def test_bf16_loses_less_than_the_adapters_give(adapted, features):
    for name, parameter in adapted.llm.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    found = adapter_rounding(adapted, features.batch(["a", "b", "c"]), CAPTIONS)
    for name in ("apart", "merged"):
        assert 0 < found[name].kl < 0.2 * found["absent"].kl
        assert found[name].largest > 0


def test_differences_by_hand():
    exact = [torch.tensor([[0.5, 0.5], [0.25, 0.75]]).log()]
    other = [torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log()]
    found = compare(exact, other, [[0, 1]])
    # KL of the first row: (ln 2 + ln 2/3) / 2; the second is 0.
    assert found.kl == pytest.approx((0.693147 - 0.405465) / 4, abs=1e-5)
    assert found.loss == pytest.approx(0.693147 / 2, abs=1e-5)
    assert found.largest == pytest.approx(0.693147, abs=1e-5)
    assert found.agreement == 0.5
