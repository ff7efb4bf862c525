"""A language model that a kept process lends: what one job does to it, the next never sees."""

import pytest
import torch
from torch import nn

from siglip_study.base import kept
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.models import lent_llm
from siglip_study.models.fast_layers import decoder_layers, set_layers, use_lean_adapters
from siglip_study.models.lent_llm import borrow_llm
from siglip_study.models.llm import add_lora, load_llm
from siglip_study.models.quantization import dequantize

CPU = torch.device("cpu")


@pytest.fixture
def end_of_job(monkeypatch):
    """Be a kept process; what is called between its jobs."""
    works = []
    monkeypatch.setattr(kept, "is_kept", lambda: True)
    monkeypatch.setattr(kept, "tidied_by", works.append)
    monkeypatch.setattr(kept, "given_up_if", lambda wanted: None)
    monkeypatch.setattr(lent_llm, "_lender", lent_llm._Lender())
    return lambda: [work() for work in works]


def facts(llm: nn.Module) -> dict:
    """Everything that could tell a model from a fresh one."""
    modules = {
        name: (type(module), sorted(vars(module)), len(module._forward_pre_hooks))
        for name, module in llm.named_modules()
    }
    learns = {name: p.requires_grad for name, p in llm.named_parameters()}
    return {"modules": modules, "learns": learns, "config": str(llm.config)}


def use(llm: nn.Module, config) -> None:
    """What training and captioning do to a model."""
    torch.manual_seed(5)
    adapted = add_lora(llm, config.lora)
    use_lean_adapters(adapted)
    set_layers(adapted, compiled=False, recomputed=1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted.train()(input_ids=torch.arange(5)[None]).logits.sum().backward()
    if config.quantization == "nf4":
        dequantize(adapted)
    llm.config._attn_implementation = "eager"
    weights_for_captions(adapted, config)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_it_comes_back_as_it_was(llm_config, end_of_job, quantization):
    config = llm_config.model_copy(update={"quantization": quantization})
    ids = torch.arange(7)[None]
    fresh = load_llm(config, CPU)
    lent = borrow_llm(config, CPU)
    use(lent, config)
    assert facts(lent) != facts(fresh)
    end_of_job()
    again = borrow_llm(config, CPU)
    assert again is lent and facts(again) == facts(fresh)
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, fresh(input_ids=ids).logits)
    for one, two in zip(again.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(one, two) and one.grad is None
    assert len(decoder_layers(again)) == len(decoder_layers(fresh))


def test_another_model_is_loaded_in_its_place(llm_config, end_of_job):
    one = borrow_llm(llm_config, CPU)
    end_of_job()
    packed = llm_config.model_copy(update={"quantization": "nf4"})
    assert borrow_llm(packed, CPU) is not one
    end_of_job()
    assert borrow_llm(llm_config, CPU) is not one


def test_two_in_one_job_are_two(llm_config, end_of_job):
    assert borrow_llm(llm_config, CPU) is not borrow_llm(llm_config, CPU)


def test_a_process_that_is_not_kept_keeps_none(llm_config):
    assert borrow_llm(llm_config, CPU) is not borrow_llm(llm_config, CPU)
