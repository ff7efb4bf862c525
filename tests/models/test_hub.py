"""Packaged sizes are the models', a model's own files come first, a full GPU is called so."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from siglip_study.base.errors import StudyError
from siglip_study.features.images import transform_from
from siglip_study.models.hub import (
    architecture,
    architecture_source,
    image_processor,
    load_weights,
    packaged_models,
)

ROOT = Path(__file__).parents[2]
CONFIGS = [p for p in sorted((ROOT / "config").glob("*.yaml")) if p.name != "config.yaml"]


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def count(model):
    """Parameters of the whole model, laid out without memory, a tied weight once."""
    import transformers

    raw = dict(architecture(model))
    config = transformers.AutoConfig.for_model(raw.pop("model_type"), **raw)
    auto = transformers.AutoModelForCausalLM if "Qwen" in model else transformers.AutoModel
    with torch.device("meta"):
        return sum(p.numel() for p in auto.from_config(config).parameters())


def test_adapters_beside_weights_are_not_followed(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/other"}')
    with pytest.raises(StudyError, match=r"has an adapter_config\.json; expected a model with its"):
        load_weights(Full, str(tmp_path), None, "llm.model", torch.float32)


# The makers' own figures (model cards and papers), which the sizes must add up to.
@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("Qwen/Qwen3-8B", 8.19e9),
        ("Qwen/Qwen3-0.6B", 0.596e9),
        ("openai/clip-vit-large-patch14-336", 427.9e6),
        ("openai/clip-vit-base-patch16", 149.6e6),
        ("google/siglip2-so400m-patch14-384", 1136e6),
        ("google/siglip2-base-patch16-224", 375e6),
    ],
)
def test_sizes_add_up_to_the_published_counts(model, published):
    assert count(model) == pytest.approx(published, rel=0.002)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.name)
def test_every_model_of_the_shipped_configs_is_packaged(path):
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    named = {study[part]["model"] for part in ("vision", "llm", "scorer")}
    assert named <= set(packaged_models())
    assert all(architecture_source(model) == "packaged" for model in named)
    assert image_processor(study["llm"]["model"]) is None
    for part in ("vision", "scorer"):
        model = study[part]["model"]
        side = architecture(model)["vision_config"]["image_size"]
        assert transform_from(image_processor(model), model).size == (side, side)


def test_a_folder_and_the_cache_come_before_the_packaged_sizes(tmp_path, empty_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cached = empty_cache / "models--Qwen--Qwen3-8B"
    (cached / "snapshots" / "c0ffee").mkdir(parents=True)
    (cached / "snapshots" / "c0ffee" / "config.json").write_text('{"model_type": "cached"}')
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("c0ffee")
    assert architecture("Qwen/Qwen3-8B", "c0ffee") == {"model_type": "cached"}
    assert architecture("Qwen/Qwen3-8B") == {"model_type": "cached"}
    assert architecture_source("Qwen/Qwen3-8B") == "hub cache"
    # Another revision is not the one that is cached.
    assert architecture_source("Qwen/Qwen3-8B", "beef") == "packaged"
    assert architecture("Qwen/Qwen3-8B", "beef")["hidden_size"] == 4096
    folder = tmp_path / "Qwen" / "Qwen3-8B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "mine"}')
    assert architecture("Qwen/Qwen3-8B") == {"model_type": "mine"}
    assert architecture_source("Qwen/Qwen3-8B") == "folder"


def test_what_is_nowhere_is_said_so(tmp_path):
    assert architecture_source("acme/unknown") == architecture_source(str(tmp_path)) == "absent"
    for model in ("acme/unknown", str(tmp_path)):
        with pytest.raises(StudyError, match=r"llm.model.*config.json is not on this machine"):
            architecture(model, key="llm.model")
    with pytest.raises(StudyError, match="no such folder"):
        architecture(str(tmp_path / "none"))
    for text, problem in (("{", "not JSON"), (json.dumps([1]), "a list")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(StudyError, match=problem):
            architecture(str(tmp_path))


class Full:
    @staticmethod
    def from_pretrained(model: str, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nAdvice.")


@pytest.mark.parametrize("model", [".", "acme/large"])
def test_weights_that_find_no_room(model):
    with pytest.raises(StudyError) as error:
        load_weights(Full, model, None, "llm.model", torch.float32)
    assert str(error.value) == (
        f"llm.model '{model}' does not fit into the GPU's memory (CUDA out of memory. Tried to "
        "allocate 9 GiB.); expected a GPU with more free memory, or a smaller or quantised model."
    )
