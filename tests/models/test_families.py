"""What is refused before a weight is read: families, and checkpoints that are quantised already."""

import json

import pytest
import torch
from safetensors.torch import save_file
from support.tiny_models import llm_of

from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig
from siglip_study.features.scorer import Scorer
from siglip_study.features.towers import VisionEncoder
from siglip_study.models.families import REFUSED_LLMS, complete_config, llm_config
from siglip_study.models.hub import require_whole
from siglip_study.models.llm import load_llm


def sentence(error):
    told = str(error.value)
    assert told.endswith(".") and ". " not in told, told
    return told


# ---- Families.


@pytest.mark.parametrize("kind", REFUSED_LLMS)
def test_a_family_that_differs_from_llama_is_refused_with_the_reason(kind):
    with pytest.raises(StudyError) as error:
        llm_config({"model_type": kind}, "llm.model 'a'")
    assert f"is of type '{kind}', which is not supported: {REFUSED_LLMS[kind]};" in sentence(error)


@pytest.mark.parametrize("kind", ["bert", "diffllama", "trocr"])
def test_any_other_language_model_is_refused_as_never_tried(kind):
    with pytest.raises(StudyError, match=f"type '{kind}', which was never tried here") as error:
        llm_config({"model_type": kind}, "llm.model 'a'")
    sentence(error)


@pytest.mark.parametrize("kind", ["llava", "mistral3", "qwen2_5_vl"])
def test_a_multimodal_model_is_no_language_model(kind):
    """Its text model may be supported; that it is all of what would be loaded was tried of one."""
    with pytest.raises(StudyError, match=f"type '{kind}'; expected a causal language model"):
        llm_config({"model_type": kind}, "llm.model 'a'")


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping 30.0"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping 50.0"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention True"),
        ("granite", {"logits_scaling": 0.0}, "scales logits by 0.0"),
        ("cohere", {"logit_scale": None}, "scales logits by 0.0"),
        ("llama", {"hidden_size": "wide"}, "its config.json is not one of type 'llama'"),
    ],
)
def test_a_setting_that_would_make_the_loss_wrong(kind, settings, said):
    with pytest.raises(StudyError) as error:
        llm_config(llm_of(kind, **settings), "llm.model 'a'")
    assert said in str(error.value)


def test_what_a_config_leaves_to_its_family_is_filled_in():
    """SigLIP's own files name their vision half and give none of its sizes."""
    raw = {"model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model"}}
    assert complete_config(raw, "it").vision_config.patch_size == 16


# ---- Checkpoints that are quantised already, as their publishers save them.

BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}
QUANTIZED = {
    "NF4": {"quantization_config": BITS | {"bnb_4bit_quant_type": "nf4"}},
    "FP4": {"quantization_config": BITS | {"bnb_4bit_quant_type": "fp4"}},
    "bitsandbytes before it had a name": {"quantization_config": {"load_in_8bit": True}},
    "AWQ": {"quantization_config": {"quant_method": "awq", "bits": 4}},
    "GPTQ": {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    "compressed": {"quantization_config": {"quant_method": "compressed-tensors"}},
    "compressed, formerly": {"compression_config": {"quant_method": "compressed-tensors"}},
    "FP8": {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    "MXFP4": {"quantization_config": {"quant_method": "mxfp4"}},
    "of a half": {"text_config": {"quantization_config": {"quant_method": "awq"}}},
}


@pytest.mark.parametrize("settings", QUANTIZED.values(), ids=QUANTIZED)
def test_a_config_that_says_so(tmp_path, settings):
    (tmp_path / "config.json").write_text(json.dumps(llm_of("llama") | settings))
    with pytest.raises(StudyError, match=r"^llm\.model '.*' is quantised already \(") as error:
        load_llm(LlmConfig(model=str(tmp_path), quantization="none"), torch.device("cpu"))
    assert "expected the model with its weights in bf16" in sentence(error)


@pytest.mark.parametrize("name", ["quantize_config.json", "quant_config.json"])
def test_a_file_beside_the_config_that_says_so(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(StudyError, match=rf"quantised already \({name}\)"):
        require_whole(llm_of("llama"), str(tmp_path), None, "llm.model")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint8, torch.int8])
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_show_it_where_the_config_does_not(tmp_path, dtype, sharded):
    name = "a.safetensors" if sharded else "model.safetensors"
    whole = {"norm.weight": torch.ones(2), "position_ids": torch.arange(3)}
    save_file(whole, tmp_path / name)
    index = {"weight_map": dict.fromkeys(["norm.weight", "up.weight"], "../" * 3 + "a.safetensors")}
    if sharded:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    require_whole({}, str(tmp_path), None, "llm.model")
    save_file(whole | {"up.weight": torch.zeros(2, 2).to(dtype)}, tmp_path / name)
    with pytest.raises(StudyError, match=r"quantised already \(up\.weight is [FUI]8"):
        require_whole({}, str(tmp_path), None, "llm.model")


@pytest.mark.parametrize(("load", "kind"), [(VisionEncoder, "clip"), (Scorer, "siglip")])
def test_towers_and_scorers_too(tmp_path, load, kind):
    raw = {"model_type": kind, "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(StudyError, match="quantised already"):
        load(str(tmp_path))
