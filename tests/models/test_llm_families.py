"""Qwen3, Llama and Gemma 3, from saved checkpoints and of random weights: whole, frozen, usable."""

import json
import weakref

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.tiny_models import gemma_sizes, wide_llm_sizes
from transformers import Gemma3Config, Gemma3TextConfig, LlamaConfig, Qwen3Config

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.llm import PromptLayout, add_lora, embedding_rms, load_llm
from siglip_study.models.quantization import random_llm
from siglip_study.models.vlm import VisionLanguageModel

CPU = torch.device("cpu")
SIZES = wide_llm_sizes(initializer_range=0.05)
LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "qwen3": Qwen3Config(**SIZES, tie_word_embeddings=True),
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=False, rope_parameters=LLAMA_ROPE),
    "gemma3": Gemma3TextConfig(**gemma_sizes(SIZES, 16)),
}
VISION = {
    **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1},
    **{"num_attention_heads": 1, "image_size": 16, "patch_size": 8},
}
MULTIMODAL = Gemma3Config(
    text_config=gemma_sizes(SIZES, 16), vision_config=VISION, mm_tokens_per_image=4
)
RANDOM = pytest.mark.parametrize("family", CONFIGS)
SAVED = pytest.mark.parametrize("family", [*CONFIGS, "gemma3_multimodal", "gemma3_hub"])
QUANTIZATION = pytest.mark.parametrize("quantization", ["none", "nf4"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of each family; the multimodal one also as the hub spells its weights."""
    base = tmp_path_factory.mktemp("families")
    torch.manual_seed(0)
    for name, config in CONFIGS.items():
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(base / name)
    source, hub = base / "gemma3_multimodal", base / "gemma3_hub"
    transformers.Gemma3ForConditionalGeneration(MULTIMODAL).save_pretrained(source)
    hub.mkdir()
    (hub / "config.json").write_bytes((source / "config.json").read_bytes())
    spelt = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        bare = name.removeprefix("model.")
        if bare.startswith("language_model."):
            inner = bare.removeprefix("language_model.").removeprefix("model.")
            bare = f"language_model.model.{inner}"
        spelt[bare] = tensor
    save_file(spelt, hub / "model.safetensors", {"format": "pt"})
    return base


def load(folder, quantization="none", **options):
    return load_llm(LlmConfig(model=str(folder), quantization=quantization, **options), CPU)


def is_tied(model):
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


@SAVED
def test_the_text_model_is_loaded_with_its_own_weights(saved, family):
    model = load(saved / family)
    assert not any("vision" in name or "projector" in name for name, _ in model.named_modules())
    if family.startswith("gemma3_"):
        assert type(model) is transformers.Gemma3ForCausalLM
        kind, folder = transformers.AutoModelForImageTextToText, saved / "gemma3_multimodal"
    else:
        kind, folder = type(model), saved / family
    ids = torch.arange(3, 20)[None]
    whole = kind.from_pretrained(folder).eval()
    torch.testing.assert_close(model(ids).logits, whole(ids).logits)
    assert is_tied(model) == (family != "llama")


@SAVED
@QUANTIZATION
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_every_family_takes_a_video_and_trains(saved, family, quantization, weights):
    llm = load(saved / family, quantization, weights=weights)
    torch.manual_seed(1)
    projector = projectors.build("linear", projectors.FeatureShape(2, (2, 2), 12), 64)
    layout = PromptLayout(before=(1, 5), after=(6, 7), blind=(1, 5, 6, 7), eos=2, pad=0)
    model = VisionLanguageModel(projector, llm, layout)
    features = 7.0 * torch.randn(3, 2, 4, 12) + 2.0
    model.calibrate(features, match_embeddings=True)
    # A video token is as large as a text token, whatever the model's embedding scale.
    video = model.video_embeddings(features)
    text = llm.get_input_embeddings()(torch.arange(90))
    assert float(video.detach().pow(2).mean()) == pytest.approx(float(text.pow(2).mean()), rel=0.02)
    model.llm = add_lora(llm, LoraConfig(r=4, alpha=8, dropout=0.0))
    optimizer = torch.optim.SGD(model.trainable().values(), lr=0.02)
    losses = []
    for _ in range(4):
        losses.append(model.caption_loss(features, [[8, 9, 2], [9, 2], [8, 2]])[0].sum())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert float(losses[-1].detach()) < float(losses[0].detach())
    lora = [n for n in model.trainable() if "lora_" in n]
    assert len(lora) == 2 * 7 * SIZES["num_hidden_layers"]


@pytest.mark.parametrize(("family", "scale"), [("gemma3", 8.0), ("qwen3", 1.0)])
def test_gemma_multiplies_its_embeddings_by_the_root_of_its_width(saved, family, scale):
    llm = load(saved / family)
    table = float(llm.get_input_embeddings().weight.pow(2).mean().sqrt())
    assert embedding_rms(llm) == pytest.approx(scale * table, rel=1e-3)


# Checkpoints that are refused.


@pytest.fixture
def config_alone(saved, tmp_path):
    (tmp_path / "config.json").write_bytes((saved / "llama" / "config.json").read_bytes())
    return tmp_path


def test_random_weights_need_a_config_only(config_alone):
    assert load(config_alone, weights="random").config.hidden_size == 64
    with pytest.raises(StudyError, match="cannot be loaded"):
        load(config_alone)


@QUANTIZATION
def test_a_checkpoint_that_lacks_weights_is_refused(saved, config_alone, quantization):
    weights = load_file(saved / "llama" / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, config_alone / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match=r"1 weights are missing.*up_proj"):
        load(config_alone, quantization)


def test_weights_in_pickles_are_not_loaded(config_alone):
    (config_alone / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(StudyError, match=r"llm\.model.*cannot be loaded"):
        load(config_alone)


@pytest.mark.parametrize("name", ["clip", "siglip", "nonsense", ""])
def test_what_is_no_language_model_is_refused(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(StudyError, match=f"is of type '{name}'; expected a causal language model"):
        load(tmp_path)


# Random weights.


def make(family, quantization, **options):
    return random_llm(CONFIGS[family], CPU, quantization, **options)


@RANDOM
@QUANTIZATION
def test_random_weights_are_whole_and_frozen(family, quantization):
    model = make(family, quantization)
    tensors = [*model.parameters(), *model.buffers()]
    assert not any(t.is_meta or t.requires_grad for t in tensors) and not model.training
    assert all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point())
    ids = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
    assert ids.shape[1] > 3


@RANDOM
def test_tables_and_norms_are_those_of_the_class(family):
    """What no weight file holds equals that of a model built whole by transformers."""
    whole = transformers.AutoModelForCausalLM.from_config(CONFIGS[family]).eval()
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


@RANDOM
@QUANTIZATION
def test_matrices_have_the_spread_of_the_config(family, quantization):
    model = make(family, quantization)
    # What a layer does to unit vectors is its matrix, quantised or not.
    matrix = model.model.layers[1].mlp.up_proj(torch.eye(64))
    assert float(matrix.std()) == pytest.approx(0.05, rel=0.1)
    assert float(matrix.mean()) == pytest.approx(0.0, abs=0.005)
    assert is_tied(model) == (family != "llama")
    assert type(model.get_output_embeddings()) is torch.nn.Linear


@QUANTIZATION
def test_the_seed_decides_and_the_callers_generator_is_left_alone(quantization):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    a, b, c = (make("llama", quantization, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    same, again, other = (
        torch.cat([p.flatten().float() for p in model.parameters()]) for model in (a, b, c)
    )
    assert torch.equal(same, again) and not torch.equal(same, other)
    first, second = (layer.mlp.up_proj.weight for layer in a.model.layers)
    assert not torch.equal(first, second)


def test_nf4_layers_and_flags_are_those_of_a_loaded_model(tiny_llm):
    loaded = load(tiny_llm, "nf4")
    model = random_llm(transformers.AutoConfig.from_pretrained(tiny_llm), CPU, "nf4")
    for key in ("is_loaded_in_4bit", "is_quantized", "quantization_method"):
        assert getattr(model, key) == getattr(loaded, key), key
    assert type(model.hf_quantizer) is type(loaded.hf_quantizer)
    assert model.config.quantization_config.to_dict() == loaded.config.quantization_config.to_dict()
    both = (model, loaded)
    weights = [{n: (p.dtype, p.shape, type(p)) for n, p in m.named_parameters()} for m in both]
    modules = [{n: type(inner) for n, inner in m.named_modules()} for m in both]
    assert weights[0] == weights[1] and modules[0] == modules[1]
    ours, theirs = (m.model.layers[0].mlp.up_proj.weight.quant_state for m in both)
    assert ours.nested and ours.quant_type == theirs.quant_type == "nf4"
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)


@QUANTIZATION
def test_bf16_on_request(quantization):
    model = make("qwen3", quantization, dtype=torch.bfloat16)
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16
    assert model.model.norm.weight.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert model(torch.tensor([[3, 4]])).logits.dtype == torch.bfloat16


def test_the_config_of_a_multimodal_model_is_kept():
    before = MULTIMODAL.to_dict()
    random_llm(MULTIMODAL, CPU, "none", dtype=torch.bfloat16)
    assert MULTIMODAL.to_dict() == before


def test_unquantised_matrices_are_never_held_together(monkeypatch):
    """Under nf4 at most one matrix is alive in full precision at any time."""
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
