"""Every language model that is called supported gives what its own logits say."""

import json

import pytest
import torch
from support.tiny_models import llm_of, stir_adapters
from transformers import CONFIG_MAPPING

from siglip_study import projectors
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.losses import losses_under_videos
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.families import LLM_FAMILIES, REFUSED_LLMS, llm_config
from siglip_study.models.llm import PromptLayout, add_lora, load_llm
from siglip_study.models.sizes import llm_shape
from siglip_study.models.vlm import VisionLanguageModel

EOS = 2
IDS = ["clip0", "clip1", "clip2"]
CAPTIONS = [[8, 9, 5, EOS], [7, EOS], [11, 80, EOS]]
# Not every type is in every release of transformers that the package allows.
FAMILIES = pytest.mark.parametrize("kind", [k for k in LLM_FAMILIES if k in CONFIG_MAPPING])


@pytest.fixture
def make(tmp_path, features):
    """A study's model around a tiny LLM of a family, as a job loads it."""

    def build(kind, quantization="none"):
        torch.set_num_threads(1)
        (tmp_path / "config.json").write_text(json.dumps(llm_of(kind)))
        config = LlmConfig(model=str(tmp_path), quantization=quantization, weights="random")
        llm = load_llm(config, torch.device("cpu"))
        torch.manual_seed(3)
        projector = projectors.build("linear", projectors.FeatureShape(2, (2, 2), 12), 64)
        layout = PromptLayout((3, 4, 5), (6, 7), (3, 4, 7), EOS, 0)
        model = VisionLanguageModel(projector, llm, layout).eval()
        model.calibrate(features.batch(IDS), match_embeddings=True)
        return model

    return build


@torch.no_grad()
def losses_of_own_logits(model, features):
    """Summed loss of each caption, from all logits that the model itself gives."""
    losses = []
    for clip, caption in zip(IDS, CAPTIONS, strict=True):
        prompt = model.prompt_embeddings(features.batch([clip]))
        whole = torch.cat([prompt, model.embed([caption])], dim=1)
        logits = model.llm(inputs_embeds=whole, use_cache=False).logits[0].float()
        told = logits[prompt.shape[1] - 1 : -1].log_softmax(-1)
        losses.append(-told[torch.arange(len(caption)), torch.tensor(caption)].sum())
    return torch.stack(losses)


@torch.no_grad()
def slow_captions(model, features, limit):
    """One token at a time, everything computed anew for every token; up to EOS."""
    rows = []
    for clip in IDS:
        prompt, row = model.prompt_embeddings(features.batch([clip])), []
        while len(row) < limit and EOS not in row:
            logits = model.llm(inputs_embeds=prompt, use_cache=False).logits[0, -1]
            row.append(int(logits.argmax()))
            prompt = torch.cat([prompt, model.embed([row[-1:]])], dim=1)
        rows.append([token for token in row if token != EOS])
    return rows


def linear_layers(llm):
    """Name → (inputs, outputs) of the linear layers below the head."""
    head = llm.get_output_embeddings()
    return {
        name.rpartition(".")[2]: (layer.in_features, layer.out_features)
        for name, layer in llm.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not head
    }


@FAMILIES
def test_losses_and_captions_are_those_of_the_model_s_own_logits(make, features, numbers, kind):
    model = make(kind)
    sizes = llm_shape(model.llm.config.to_dict(), kind).linears()
    assert sizes == linear_layers(model.llm)
    # Adapters on every layer, which change something.
    model.llm = add_lora(model.llm, LoraConfig(r=2, dropout=0.0, targets=tuple(sizes)))
    stir_adapters(model.llm)
    expected = losses_of_own_logits(model, features)
    losses = model.caption_loss(features.batch(IDS), CAPTIONS)[0]
    torch.testing.assert_close(losses.detach(), expected, rtol=1e-4, atol=1e-3)
    shown = losses_under_videos(
        model, lambda rows: features.batch([IDS[i] for i in rows]), [[c] for c in CAPTIONS], 2
    )
    torch.testing.assert_close(torch.tensor(shown)[:, 0], expected, rtol=1e-4, atol=1e-3)
    slow = slow_captions(model, features, 8)
    for graphs in (False, True):  # steps with keys up to the position, and under a mask
        found = generate_captions(
            model, numbers, IDS, features.batch, max_new_tokens=8, graphs=graphs
        )
        assert [[int(token) for token in caption.text.split()] for caption in found] == slow
    losses.sum().backward()
    assert all(p.grad is not None for p in model.trainable().values())


@FAMILIES
def test_nf4_packs_every_layer_and_keeps_the_loss_that_of_the_logits(make, features, kind):
    model = make(kind, "nf4")
    packed = {n.rpartition(".")[2] for n, m in model.llm.named_modules() if "4bit" in repr(type(m))}
    assert packed == set(llm_shape(model.llm.config.to_dict(), kind).linears())
    with torch.no_grad():
        losses = model.caption_loss(features.batch(IDS), CAPTIONS)[0]
    expected = losses_of_own_logits(model, features)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-3)


def test_what_is_refused_by_name_is_not_supported_as_well():
    assert not set(REFUSED_LLMS) & set(LLM_FAMILIES)


def test_the_factor_of_the_logits_is_read_as_each_family_means_it():
    """Granite divides by what HyperCLOVA X, under the same name, multiplies by."""
    from siglip_study.models.families import logit_factor

    factors = {
        kind: logit_factor(llm_config(llm_of(kind, **{key: 4.0}), kind))
        for kind, key in (("granite", "logits_scaling"), ("cohere", "logit_scale"))
    }
    assert factors == {"granite": 0.25, "cohere": 4.0}
