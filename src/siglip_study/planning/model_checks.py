"""Are the models here, of the right kind, safe to open, and do they fit each other?

Each check yields levels and sentences, as :mod:`siglip_study.planning.preflight` shows them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

from siglip_study.base.errors import StudyError
from siglip_study.config.study import ScorerConfig
from siglip_study.config.training import VisionConfig
from siglip_study.features.scorer import SCORER_FAMILIES
from siglip_study.features.towers import VISION_FAMILIES
from siglip_study.models.hub import (
    FETCH_HINT,
    architecture,
    cached_file,
    is_folder,
    require_folder,
)
from siglip_study.models.llm import prompt_layout
from siglip_study.models.sizes import llm_shape
from siglip_study.planning.estimate import Forecast
from siglip_study.planning.workload import Connector, connector_of, frame_size

Level = Literal["ok", "warning", "failed"]
Told = Iterator[tuple[Level, str]]

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "pytorch_model.pt")


def check_vision(forecast: Forecast) -> Told:
    """The encoder: kind, weights, and an image processor that gives frames of the tower's size."""
    vision = forecast.config.vision
    raw = _config(vision, "vision")
    yield from _image_model("vision", vision, raw, VISION_FAMILIES)
    layers = int(raw.get("vision_config", raw).get("num_hidden_layers", 12))
    depth = vision.layer if vision.layer >= 0 else layers + 1 + vision.layer
    if raw.get("model_type", "") in VISION_FAMILIES and not 1 <= depth <= layers:
        yield "failed", f"vision.layer is {vision.layer}; the tower has {layers} layers."


def check_llm(forecast: Forecast) -> Told:
    """The language model: kind and weights."""
    llm = forecast.config.llm
    raw = _config(llm, "llm")
    kind = raw.get("model_type", "")
    known = kind in CONFIG_MAPPING
    text = CONFIG_MAPPING[kind].from_dict(raw).get_text_config() if known else None
    if text is None or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        yield "failed", f"{llm.model} is of type '{kind}'; expected a causal language model."
        return
    yield _weights("llm", llm.model, llm.revision, llm.weights)
    if llm.quantization == "nf4":
        if importlib.util.find_spec("bitsandbytes") is None:
            yield "failed", "llm.quantization is nf4 and bitsandbytes is not installed."
        else:
            yield "ok", "bitsandbytes is installed for NF4."


def check_tokenizer(forecast: Forecast) -> Told:
    """The tokenizer: it fits the model's vocabulary, has a chat template, and knows the markers."""
    llm, tokenizer = forecast.config.llm, forecast.tokenizer
    if tokenizer is None:
        yield "failed", f"that of {llm.model} is not on this machine; {FETCH_HINT}."
        return
    vocab = llm_shape(_config(llm, "llm"), f"llm.model {llm.model}").vocab
    if len(tokenizer) > vocab:
        told = f"it has {len(tokenizer)} tokens and the model {vocab} embeddings"
        yield "failed", f"{told}; expected the model's own tokenizer."
        return
    layout = prompt_layout(tokenizer, llm)
    around = len(layout.before) + len(layout.after)
    told = f"{len(tokenizer)} tokens for {vocab} embeddings"
    yield "ok", f"{told}; {around} tokens around the video."
    for marker in llm.vision_markers or ():
        pieces = tokenizer(marker, add_special_tokens=False)["input_ids"]
        if len(pieces) != 1:
            told = f"the vision marker '{marker}' is {len(pieces)} tokens"
            yield "warning", f"{told}; expected one."


def check_scorer_model(forecast: Forecast) -> Told:
    """The scorer: kind, weights, frames of its size, and its tokenizer."""
    scorer = forecast.config.scorer
    raw = _config(scorer, "scorer")
    yield from _image_model("scorer", scorer, raw, SCORER_FAMILIES)
    if raw.get("model_type", "") not in SCORER_FAMILIES:
        return
    files = ("tokenizer.json", "spiece.model", "vocab.json")
    if scorer.weights == "pretrained" and not _has(scorer.model, scorer.revision, files):
        yield "failed", f"{scorer.model} has no tokenizer on this machine; {FETCH_HINT}."
    if scorer.model == forecast.config.vision.model:
        yield "warning", "it is the captioning encoder; expected another model as judge."


def check_bertscore(forecast: Forecast) -> Told:
    """BERTScore's encoder, where one is configured."""
    bert = forecast.config.bertscore
    if bert is None:
        yield "ok", "not configured, so not computed."
    else:
        yield _weights("bertscore", bert.model, None, "pretrained")


def check_projectors(forecast: Forecast) -> Told:
    """Every projector can be built between these models."""
    models, frames = forecast.models, forecast.config.vision.frames
    built: dict[Connector, str] = {}
    for cell in [*forecast.study.tuning, *forecast.study.controls]:
        built.setdefault(connector_of(cell.run), cell.label)
    for connector, label in built.items():
        try:
            projector = models.projector(connector, frames)
        except StudyError as error:
            yield "failed", f"{label}: {error}"
            continue
        tokens = projector.tokens_per_video(frames)
        millions = projector.n_parameters() / 1e6
        yield "ok", f"{label}: {tokens} tokens a video, {millions:.3g} M parameters."


def _config(section: Any, what: str) -> dict[str, Any]:
    return architecture(section.model, section.revision, f"{what}.model")


def _image_model(
    what: str,
    section: VisionConfig | ScorerConfig,
    raw: dict[str, Any],
    families: Collection[str],
) -> Told:
    """Kind, weights and frame size of a model that sees frames."""
    model, kind = section.model, raw.get("model_type", "")
    if kind not in families:
        yield "failed", f"{model} is of type '{kind}'; expected {', '.join(families)}."
        return
    yield _weights(what, model, section.revision, section.weights)
    width, height = frame_size(raw, model, f"{what}.model")
    tower = raw.get("vision_config", raw)
    side, patch = int(tower.get("image_size", 224)), int(tower.get("patch_size", 16))
    free = str(tower.get("model_type", kind)).startswith(("dinov2", "siglip2"))
    # A scorer's tower drops what is left over at the border; an encoder's grid may not.
    uneven = what == "vision" and (width % patch or height % patch)
    if ((width, height) != (side, side) and not free) or uneven:
        told = f"its image processor gives {width}×{height} pixels"
        yield "failed", f"{told}; the tower expects {side}×{side} in patches of {patch}."
    else:
        yield "ok", f"frames of {width}×{height} pixels fit the tower."


def _weights(what: str, model: str, revision: str | None, weights: str) -> tuple[Level, str]:
    """Safetensors are there, and whole; a pickle is never opened."""
    if weights == "random":
        return "warning", f"{model} is given random weights; for speed alone."
    require_folder(model, f"{what}.model")
    whole, index = (_file(model, revision, name) for name in _SAFE)
    if whole is None and index is None:
        if _has(model, revision, _PICKLES):
            told = f"{model} has its weights as a pickle only; expected safetensors."
        elif is_folder(model):
            told = f"{model} holds no model.safetensors; expected a model with its weights."
        else:
            told = f"the weights of {model} are not on this machine; {FETCH_HINT}."
        return "failed", told
    if whole is None and index is not None:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(shards):
            if _file(model, revision, name) is None:
                return "failed", f"{model}: {name} is missing; expected every file of its index."
    return "ok", f"{model} is here, in safetensors."


def _file(model: str, revision: str | None, name: str) -> Path | None:
    if is_folder(model):
        path = Path(model) / name
        return path if path.is_file() else None
    return cached_file(model, revision, name)


def _has(model: str, revision: str | None, names: tuple[str, ...]) -> bool:
    return any(_file(model, revision, name) is not None for name in names)
