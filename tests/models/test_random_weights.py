"""Random-weight language models behave as loaded ones, and are whole."""

import pytest
import torch
from support.tiny_models import gemma_sizes, wide_llm_sizes
from transformers import (
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen3Config,
)

from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.llm import add_lora, load_llm
from siglip_study.models.quantization import random_llm

CPU = torch.device("cpu")
SIZES = wide_llm_sizes(initializer_range=0.05)
CONFIGS = {
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "llama": LlamaConfig(
        **SIZES,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "gemma3": Gemma3TextConfig(**gemma_sizes(SIZES, 16)),
}
EVERY = pytest.mark.parametrize("quantization", ["none", "nf4"])
FAMILY = pytest.mark.parametrize("family", CONFIGS)


def make(family, quantization, **options):
    return random_llm(CONFIGS[family], CPU, quantization, **options)


@FAMILY
@EVERY
def test_the_model_is_whole_frozen_and_usable(family, quantization):
    model = make(family, quantization)
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(t.is_meta or t.requires_grad for t in tensors) and not model.training
    assert all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
    inputs = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = model(inputs_embeds=inputs).logits
    assert logits.shape == (2, 7, 90) and float(logits.detach().std()) > 0
    logits.square().sum().backward()
    assert bool(torch.isfinite(inputs.grad).all()) and float(inputs.grad.abs().min(-1)[0].max()) > 0
    ids = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    assert ids.shape[1] > 3


@FAMILY
def test_tables_and_norms_are_those_of_the_class(family):
    """What no weight file holds equals that of a model built whole by transformers."""
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_config(CONFIGS[family]).eval()
    model = make(family, "none")
    assert type(model) is type(whole)
    expected = dict(whole.named_buffers())
    assert expected and expected.keys() == dict(model.named_buffers()).keys()
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=0)
    norms = {n: p for n, p in whole.named_parameters() if "norm" in n}
    assert all(torch.equal(model.get_parameter(n), p) for n, p in norms.items())
    # And given the same weights it computes the same.
    model.load_state_dict(whole.state_dict())
    ids = torch.arange(3, 40)[None]
    torch.testing.assert_close(model(ids).logits, whole(ids).logits)


@FAMILY
@EVERY
def test_matrices_have_the_spread_of_the_config(family, quantization):
    model = make(family, quantization)
    layer = model.model.layers[1].mlp.up_proj
    # What the layer does to unit vectors is its matrix, quantised or not.
    matrix = layer(torch.eye(64))
    assert float(matrix.std()) == pytest.approx(0.05, rel=0.1)
    assert float(matrix.mean()) == pytest.approx(0.0, abs=0.005)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) == (family != "llama")
    assert type(head) is torch.nn.Linear


@EVERY
def test_the_seed_decides_and_the_callers_generator_is_left_alone(quantization):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    a, b, c = (make("llama", quantization, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    pick = [torch.cat([p.flatten().float() for p in m.parameters()]) for m in (a, b, c)]
    assert torch.equal(pick[0], pick[1]) and not torch.equal(pick[0], pick[2])
    layers = a.model.layers
    assert not torch.equal(layers[0].mlp.up_proj.weight, layers[1].mlp.up_proj.weight)


@FAMILY
@EVERY
def test_adapters_train_on_it(family, quantization):
    pytest.importorskip("bitsandbytes")
    model = add_lora(make(family, quantization), LoraConfig(r=4, alpha=8, dropout=0.0))
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    assert "4bit" in type(layer).__name__ if quantization == "nf4" else True
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.02)  # at .5 the loss oscillates
    ids = torch.arange(3, 12)[None]
    losses = []
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_nf4_layers_and_flags_are_those_of_a_loaded_model(tiny_llm):
    from transformers import AutoConfig

    loaded = load_llm(LlmConfig(model=str(tiny_llm), quantization="nf4"), CPU)
    model = random_llm(AutoConfig.from_pretrained(tiny_llm), CPU, "nf4")
    for key in ("is_loaded_in_4bit", "is_quantized", "quantization_method"):
        assert getattr(model, key) == getattr(loaded, key), key
    assert type(model.hf_quantizer) is type(loaded.hf_quantizer)
    assert model.config.quantization_config.to_dict() == loaded.config.quantization_config.to_dict()
    a, b = dict(model.named_parameters()), dict(loaded.named_parameters())
    assert a.keys() == b.keys()
    for name, p in a.items():
        assert (p.dtype, p.shape, type(p)) == (b[name].dtype, b[name].shape, type(b[name])), name
    kinds = [{n: type(m) for n, m in m.named_modules()} for m in (model, loaded)]
    assert kinds[0] == kinds[1]
    states = [m.model.layers[0].mlp.up_proj.weight.quant_state for m in (model, loaded)]
    assert states[0].nested and states[0].quant_type == states[1].quant_type == "nf4"
    assert states[0].dtype == states[1].dtype and states[0].shape == states[1].shape


@EVERY
def test_bf16_on_request(quantization):
    model = make("qwen3", quantization, dtype=torch.bfloat16)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.model.norm.weight.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model(torch.tensor([[3, 4]])).logits.dtype == torch.bfloat16


def test_of_a_multimodal_config_the_text_model_is_built_and_the_config_is_kept():
    text = CONFIGS["gemma3"].to_dict()
    config = Gemma3Config(text_config=text, vision_config={"hidden_size": 16})
    before = config.to_dict()
    model = random_llm(config, CPU, "none", dtype=torch.bfloat16)
    assert type(model).__name__ == "Gemma3ForCausalLM"
    assert config.to_dict() == before


def test_unquantised_matrices_are_never_held_together(monkeypatch):
    """Under nf4 at most one matrix is alive in full precision at any time."""
    import weakref

    alive = weakref.WeakSet()
    peak = made = 0
    inner = torch.nn.Linear.to_empty

    def watched(self, *args, **options):
        nonlocal peak, made
        alive.add(self)
        peak, made = max(peak, len(alive)), made + 1
        return inner(self, *args, **options)

    monkeypatch.setattr(torch.nn.Linear, "to_empty", watched)
    make("llama", "nf4")
    assert (peak, made) == (1, 2 * 7)
