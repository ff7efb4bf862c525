"""Adapters, quantisation, and the sentences about models that are not there."""

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.captioning.generate import generate_captions
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.llm import add_lora, load_llm, load_tokenizer, merge_adapters

CPU = torch.device("cpu")


@pytest.mark.parametrize("load", [load_tokenizer, lambda config: load_llm(config, CPU)])
@pytest.mark.parametrize("model", ["./nowhere", "/no/such/folder", "a/b/c"])
def test_a_missing_folder_is_called_a_missing_folder(load, model):
    with pytest.raises(StudyError, match=f"llm.model is '{model}', and there is no such folder"):
        load(LlmConfig(model=model))


def test_a_hub_model_that_is_not_here_says_how_to_fetch_it(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        StudyError, match=r"nobody/nothing' \(revision abc\).*-m siglip_study.models fetch"
    ) as error:
        load_tokenizer(LlmConfig(model="nobody/nothing", revision="abc"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("target", ["qkv_proj", "lm_head", "mlp", "norm"])
def test_lora_targets_must_be_linear_layers(llm_config, target):
    with pytest.raises(StudyError, match=rf"llm.lora.targets: {target} .*q_proj.*\.$"):
        add_lora(load_llm(llm_config, CPU), LoraConfig(targets=("q_proj", target)))


def test_fresh_adapters_change_nothing_and_follow_the_seed(make_model, features):
    plain, adapted = make_model().eval(), make_model(lora=True).eval()
    batch, captions = features.batch(["a"]), [[5, 6, 2]]
    torch.testing.assert_close(
        plain.caption_loss(batch, captions)[0], adapted.caption_loss(batch, captions)[0]
    )
    again, other = make_model(lora=True), make_model(lora=True, seed=5)
    lora = [n for n in adapted.trainable() if "lora_A" in n]
    assert all(torch.equal(adapted.trainable()[n], again.trainable()[n]) for n in lora)
    assert not any(torch.equal(adapted.trainable()[n], other.trainable()[n]) for n in lora)


def test_nf4_loads_frozen_trains_adapters_and_captions(make_model, llm_config, features, tokenizer):
    pytest.importorskip("bitsandbytes")

    config = llm_config.model_copy(update={"quantization": "nf4"})
    model = make_model(lora=True, config=config).train()
    layer = model.llm.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert layer.weight.dtype == torch.uint8 and layer.weight.quant_state.nested
    assert layer.weight.quant_state.quant_type == "nf4"
    assert all("lora_" in n or n.startswith("projector.") for n in model.trainable())
    model.caption_loss(features.batch(["a", "b"]), [[5, 6, 2], [5, 2]])[0].sum().backward()
    grads = [p.grad for n, p in model.trainable().items() if "lora_A" not in n]
    assert all(float(g.abs().max()) > 0 for g in grads)
    captions = generate_captions(
        model, tokenizer, ["a", "b"], features.batch, max_new_tokens=4, batch_size=2
    )
    assert len(captions) == 2
    assert merge_adapters(model.llm, config) is model.llm


def test_nf4_trains_the_same_after_a_validation(make_model, llm_config, features):
    """bitsandbytes may repack layers in eval mode for a CPU kernel that has no gradient."""
    pytest.importorskip("bitsandbytes")
    model = make_model(config=llm_config.model_copy(update={"quantization": "nf4"}))
    batch, captions = features.batch(["a"]), [[5, 6, 2]]

    def gradient():
        model.train().zero_grad()
        model.caption_loss(batch, captions)[0].sum().backward()
        return model.projector.proj.weight.grad.clone()

    before = gradient()
    model.eval()
    with torch.no_grad():
        model.caption_loss(batch, captions)
    assert torch.equal(before, gradient())


def test_bf16_weights_keep_their_adapters_apart(make_model, llm_config):
    """Added to a bf16 weight, an update below its last bit would be lost."""

    llm = make_model(lora=True).llm.to(torch.bfloat16)
    assert merge_adapters(llm, llm_config) is llm
