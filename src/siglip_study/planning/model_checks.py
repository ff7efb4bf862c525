"""Are the models here, of the right kind, safe to open, and do they fit each other?"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.config.study import ScorerConfig
from siglip_study.config.training import VisionConfig
from siglip_study.models.hub import FETCH_HINT, cached_file, is_folder, require_folder
from siglip_study.planning.findings import Finding, Premises

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "pytorch_model.pt")


def check_vision(premises: Premises) -> Iterator[Finding]:
    """The encoder: kind, weights, and an image processor that gives frames of the tower's size."""
    from siglip_study.features.towers import _FAMILIES

    vision = premises.config.vision
    raw = yield from _image_model("vision", vision, _FAMILIES)
    if raw is None:
        return
    tower = raw.get("vision_config", raw)
    layers = int(tower.get("num_hidden_layers", 12))
    depth = vision.layer if vision.layer >= 0 else layers + 1 + vision.layer
    if not 1 <= depth <= layers:
        yield Finding(
            "failed", "vision", f"vision.layer is {vision.layer}; the tower has {layers} layers."
        )


def check_llm(premises: Premises) -> Iterator[Finding]:
    """The language model: kind and weights."""
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

    from siglip_study.models.architectures import architecture

    llm = premises.config.llm
    raw = architecture(llm.model, llm.revision, "llm.model")
    kind = raw.get("model_type", "")
    text: Any = None
    if kind in CONFIG_MAPPING:
        text = CONFIG_MAPPING[kind].from_dict(raw).get_text_config()
    if text is None or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        yield Finding(
            "failed", "llm", f"{llm.model} is of type '{kind}'; expected a causal language model."
        )
        return
    yield from _weights("llm", llm.model, llm.revision, llm.weights)
    if llm.quantization == "nf4":
        yield _bitsandbytes()


def check_tokenizer(premises: Premises) -> Iterator[Finding]:
    """The tokenizer: it fits the model's vocabulary, has a chat template, and knows the markers."""
    from siglip_study.models.llm import prompt_layout

    llm, tokenizer = premises.config.llm, premises.tokenizer
    if tokenizer is None:
        sentence = f"that of {llm.model} is not on this machine; {FETCH_HINT}."
        yield Finding("failed", "tokenizer", sentence)
        return
    from siglip_study.models.architectures import architecture
    from siglip_study.models.sizes import llm_shape

    shape = llm_shape(architecture(llm.model, llm.revision, "llm.model"), f"llm.model {llm.model}")
    if len(tokenizer) > shape.vocab:
        yield Finding(
            "failed",
            "tokenizer",
            f"it has {len(tokenizer)} tokens and the model {shape.vocab} embeddings; expected the "
            "model's own tokenizer.",
        )
        return
    layout = prompt_layout(tokenizer, llm)
    around = len(layout.before) + len(layout.after)
    yield Finding(
        "ok",
        "tokenizer",
        f"{len(tokenizer)} tokens for {shape.vocab} embeddings; {around} tokens around the video.",
    )
    for marker in llm.vision_markers or ():
        pieces = tokenizer(marker, add_special_tokens=False)["input_ids"]
        if len(pieces) != 1:
            yield Finding(
                "warning",
                "tokenizer",
                f"the vision marker '{marker}' is {len(pieces)} tokens; expected one.",
            )


def check_scorer(premises: Premises) -> Iterator[Finding]:
    """The scorer: kind, weights, frames of its size, and its tokenizer."""
    from siglip_study.features.scorer import _FAMILIES

    scorer = premises.config.scorer
    if (yield from _image_model("scorer", scorer, _FAMILIES)) is None:
        return
    if scorer.weights == "pretrained" and not _has(
        scorer.model, scorer.revision, ("tokenizer.json", "spiece.model", "vocab.json")
    ):
        sentence = f"{scorer.model} has no tokenizer on this machine; {FETCH_HINT}."
        yield Finding("failed", "scorer", sentence)
    if scorer.model == premises.config.vision.model:
        yield Finding(
            "warning", "scorer", "it is the captioning encoder; expected another model as judge."
        )


def check_bertscore(premises: Premises) -> Iterator[Finding]:
    """BERTScore's encoder, where one is configured."""
    bert = premises.config.bertscore
    if bert is None:
        yield Finding("ok", "bertscore", "not configured, so not computed.")
        return
    yield from _weights("bertscore", bert.model, None, "pretrained")


def check_projectors(premises: Premises) -> Iterator[Finding]:
    """Every projector can be built between these models."""
    from siglip_study.planning.facts import model_facts
    from siglip_study.planning.workload import Connector, connector_of

    config = premises.config
    facts = model_facts(config)
    built: dict[Connector, str] = {}
    for cell in [*premises.study.tuning, *premises.study.controls]:
        built.setdefault(connector_of(cell.run), cell.label)
    for connector, label in built.items():
        try:
            projector = facts.projector(connector, config.vision.frames)
        except StudyError as error:
            yield Finding("failed", "projectors", f"{label}: {error}")
            continue
        tokens = projector.tokens_per_video(config.vision.frames)
        millions = projector.n_parameters() / 1e6
        sentence = f"{label}: {tokens} tokens a video, {millions:.3g} M parameters."
        yield Finding("ok", "projectors", sentence)


def _image_model(
    what: str, section: VisionConfig | ScorerConfig, families: Collection[str]
) -> Generator[Finding, None, dict[str, Any] | None]:
    """Kind, weights and frame size of a model that sees frames; its config, None if of no kind."""
    from siglip_study.models.architectures import architecture

    model, revision = section.model, section.revision
    raw = architecture(model, revision, f"{what}.model")
    kind = raw.get("model_type", "")
    if kind not in families:
        known = ", ".join(families)
        yield Finding("failed", what, f"{model} is of type '{kind}'; expected {known}.")
        return None
    yield from _weights(what, model, revision, section.weights)
    yield _frame_size(what, model, raw)
    return raw


def _weights(what: str, model: str, revision: str | None, weights: str) -> Iterator[Finding]:
    """Safetensors are there, and whole; a pickle is never opened."""
    if weights == "random":
        yield Finding("warning", what, f"{model} is given random weights; for speed alone.")
        return
    require_folder(model, f"{what}.model")
    if not _has(model, revision, _SAFE):
        if _has(model, revision, _PICKLES):
            sentence = f"{model} has its weights as a pickle only; expected safetensors."
        elif is_folder(model):
            sentence = f"{model} holds no model.safetensors; expected a model with its weights."
        else:
            sentence = f"the weights of {model} are not on this machine; {FETCH_HINT}."
        yield Finding("failed", what, sentence)
        return
    absent = _absent_shards(model, revision)
    if absent:
        sentence = f"{model}: {absent[0]} is missing; expected every file of its index."
        yield Finding("failed", what, sentence)
        return
    yield Finding("ok", what, f"{model} is here, in safetensors.")


def _file(model: str, revision: str | None, name: str) -> Path | None:
    if is_folder(model):
        path = Path(model) / name
        return path if path.is_file() else None
    return cached_file(model, revision, name)


def _has(model: str, revision: str | None, names: tuple[str, ...]) -> bool:
    return any(_file(model, revision, name) is not None for name in names)


def _absent_shards(model: str, revision: str | None) -> list[str]:
    import json

    index = _file(model, revision, _SAFE[1])
    if index is None or _file(model, revision, _SAFE[0]) is not None:
        return []
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return [name for name in names if _file(model, revision, name) is None]


def _frame_size(what: str, model: str, raw: dict[str, Any]) -> Finding:
    from siglip_study.planning.facts import frame_size

    size = frame_size(raw, model, f"{what}.model")
    tower = raw.get("vision_config", raw)
    side = int(tower.get("image_size", 224))
    patch = int(tower.get("patch_size", 16))
    free = str(tower.get("model_type", raw.get("model_type", ""))).startswith(("dinov2", "siglip2"))
    # A scorer's tower drops what is left over at the border; an encoder's grid may not.
    uneven = what == "vision" and (size[0] % patch or size[1] % patch)
    if (size != (side, side) and not free) or uneven:
        return Finding(
            "failed",
            what,
            f"its image processor gives {size[0]}×{size[1]} pixels; the tower expects "
            f"{side}×{side} in patches of {patch}.",
        )
    return Finding("ok", what, f"frames of {size[0]}×{size[1]} pixels fit the tower.")


def _bitsandbytes() -> Finding:
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        return Finding(
            "failed", "llm", "llm.quantization is nf4 and bitsandbytes is not installed."
        )
    return Finding("ok", "llm", "bitsandbytes is installed for NF4.")
