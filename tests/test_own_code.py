"""A model folder's own Python code is never run, and nobody is asked to allow it."""

import builtins
import json

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig
from siglip_study.metrics.bertscore import BertScore
from siglip_study.models import hub
from siglip_study.models.hub import load_weights
from siglip_study.models.llm import load_llm, load_tokenizer


@pytest.fixture
def folder(tmp_path, tiny_llm, monkeypatch):
    """A model of an unknown kind; its code leaves a trace, and whoever asks hears "y"."""
    monkeypatch.setattr(builtins, "input", lambda question: (tmp_path / "asked").touch() or "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    model = tmp_path / "model"
    model.mkdir()
    for path in tiny_llm.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    kinds = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {kind: "own.Own" for kind in kinds}}
    (model / "config.json").write_text(json.dumps(config))
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    yield model
    assert not (tmp_path / "asked").exists()
    assert not (tmp_path / "ran").exists()


def test_parts_and_weights_are_refused_in_a_sentence(folder):
    from transformers import AutoModelForCausalLM

    with pytest.raises(StudyError, match=r"code that it brings along, which is never run"):
        hub.open_tokenizer(str(folder), None, "llm.model")
    with pytest.raises(StudyError, match=r"llm\.model '.*code that it brings along"):
        load_weights(AutoModelForCausalLM, str(folder), None, "llm.model", torch.float32)


def test_every_way_to_a_model_is_closed(folder):
    config = LlmConfig(model=str(folder), quantization="none")
    with pytest.raises(StudyError):
        load_tokenizer(config)
    with pytest.raises(StudyError):
        load_llm(config, torch.device("cpu"))
    with pytest.raises(StudyError, match=r"metrics\.bertscore"):
        BertScore(str(folder), num_layers=1)
