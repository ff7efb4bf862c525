"""Qwen3, Llama and Gemma 3 as saved checkpoints: loading, text-only loading, scale, training."""

import json

import pytest
import torch
from support.tiny_models import gemma_sizes, wide_llm_sizes
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.llm import PromptLayout, add_lora, embedding_rms, load_llm
from siglip_study.models.vlm import VisionLanguageModel

CPU = torch.device("cpu")
SIZES = wide_llm_sizes()
GEMMA = gemma_sizes(SIZES, 16)
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": 16,
    "patch_size": 8,
}


def gemma_multimodal():
    config = Gemma3Config(text_config=GEMMA, vision_config=VISION, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config)


MODELS = {
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, tie_word_embeddings=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA)),
    "gemma3_multimodal": gemma_multimodal,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of each family; the multimodal one also as the hub spells its weights."""
    from safetensors.torch import load_file, save_file

    base = tmp_path_factory.mktemp("families")
    torch.manual_seed(0)
    for name, make in MODELS.items():
        make().save_pretrained(base / name)
    source, hub = base / "gemma3_multimodal", base / "gemma3_hub"
    hub.mkdir()
    (hub / "config.json").write_bytes((source / "config.json").read_bytes())
    spelt = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        bare = name.removeprefix("model.")
        if bare.startswith("language_model."):
            bare = "language_model.model." + bare.removeprefix("language_model.").removeprefix(
                "model."
            )
        spelt[bare] = tensor
    save_file(spelt, hub / "model.safetensors", {"format": "pt"})
    return base


FAMILY = pytest.mark.parametrize("family", [*MODELS, "gemma3_hub"])
EVERY = pytest.mark.parametrize("quantization", ["none", "nf4"])


def load(saved, family, quantization="none", **options):
    return load_llm(LlmConfig(model=str(saved / family), quantization=quantization, **options), CPU)


@FAMILY
def test_the_text_model_is_loaded_with_its_own_weights(saved, family):
    from transformers import AutoModelForImageTextToText

    model = load(saved, family)
    assert not any("vision" in name or "projector" in name for name, _ in model.named_modules())
    ids = torch.arange(3, 20)[None]
    if family.startswith("gemma3_"):
        assert type(model) is Gemma3ForCausalLM
        whole = AutoModelForImageTextToText.from_pretrained(saved / "gemma3_multimodal").eval()
    else:
        whole = type(model).from_pretrained(saved / family).eval()
    torch.testing.assert_close(model(ids).logits, whole(ids).logits)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    assert (head.weight is embedding.weight) == (family != "llama")


@FAMILY
@EVERY
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_every_family_takes_a_video_and_trains(saved, family, quantization, weights):
    llm = load(saved, family, quantization, weights=weights)
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


def test_gemma_multiplies_its_embeddings_by_the_root_of_its_width(saved):
    llm = load(saved, "gemma3")
    table = float(llm.get_input_embeddings().weight.pow(2).mean().sqrt())
    assert embedding_rms(llm) == pytest.approx(8.0 * table, rel=1e-3)
    plain = load(saved, "qwen3")
    table = float(plain.get_input_embeddings().weight.pow(2).mean().sqrt())
    assert embedding_rms(plain) == pytest.approx(table, rel=1e-6)


def test_random_weights_need_a_config_only(saved, tmp_path):
    (tmp_path / "config.json").write_bytes((saved / "llama" / "config.json").read_bytes())
    made = [
        load_llm(LlmConfig(model=str(tmp_path), quantization="none", weights="random"), CPU)
        for _ in "ab"
    ]
    states = [model.state_dict() for model in made]
    assert all(torch.equal(states[0][n], states[1][n]) for n in states[0])
    with pytest.raises(StudyError, match="cannot be loaded"):
        load_llm(LlmConfig(model=str(tmp_path), quantization="none"), CPU)


@EVERY
def test_a_checkpoint_that_lacks_weights_is_refused(saved, tmp_path, quantization):
    from safetensors.torch import load_file, save_file

    weights = load_file(saved / "llama" / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_bytes((saved / "llama" / "config.json").read_bytes())
    with pytest.raises(StudyError, match=r"1 weights are missing.*up_proj"):
        load_llm(LlmConfig(model=str(tmp_path), quantization=quantization), CPU)


@pytest.mark.parametrize("name", ["clip", "siglip", "nonsense", ""])
def test_what_is_no_language_model_is_refused(tmp_path, name):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}))
    with pytest.raises(StudyError, match=f"is of type '{name}'; expected a causal language model"):
        load_llm(LlmConfig(model=str(tmp_path), quantization="none"), CPU)
