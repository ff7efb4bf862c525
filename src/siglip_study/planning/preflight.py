"""Checks in seconds, before any GPU time: config, models, data, disk, GPU, report.

Each check yields levels and sentences; all of them run, whatever fails.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from siglip_study.base.errors import ClipError, StudyError, first_line
from siglip_study.config.study import Config
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import read_frames, require_decoder
from siglip_study.data.labels import Scan
from siglip_study.data.listing import SplitListing, related, require_apart
from siglip_study.features.scorer import SCORER_FAMILIES
from siglip_study.features.towers import check_layer, check_size, load_frozen
from siglip_study.models.families import (
    VISION_FAMILIES,
    complete_config,
    llm_config,
    patch_grid,
    tower_config,
    vision_family,
)
from siglip_study.models.fp8 import why_no_fp8
from siglip_study.models.hub import (
    FETCH_HINT,
    architecture,
    has_tokenizer,
    is_folder,
    open_tokenizer,
    own_file,
    read_settings,
    require_folder,
    require_whole,
    shard_names,
    spoilt_weight,
)
from siglip_study.models.llm import check_targets, load_llm, prompt_layout
from siglip_study.models.sizes import llm_shape
from siglip_study.planning.estimate import OVERHEAD_BYTES, Forecast
from siglip_study.planning.rehearse import existing_folder, gigabytes
from siglip_study.planning.workload import Connector, connector_of, frame_size, seen_by
from siglip_study.training.memory import GIB
from siglip_study.training.trackers import require_trackers

Level = Literal["ok", "warning", "failed"]
Told = Iterator[tuple[Level, str]]

_WHOLE = "model.safetensors"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.bin", "pytorch_model.pt")
#: Clips of a split below which its intervals say little.
_FEW_CLIPS = 20


@dataclass(frozen=True)
class Finding:
    """One line: how it stands, what was looked at, and a sentence."""

    level: Level
    what: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:8}{self.what}: {self.sentence}"


def preflight(config: Config, checks: Iterable[str] | None = None) -> list[Finding]:
    """Every finding of every check; one that cannot be finished is a failure, not the end.

    ``checks`` are those of :data:`CHECKS` to run; None: all.
    """
    forecast = Forecast(config)
    findings: list[Finding] = []
    ended: dict[str, dict[str, None]] = {}
    for what in CHECKS if checks is None else checks:
        # Of models, each on an axis is asked.
        for part in forecast.parts if what in _OF_PARTS else [forecast]:
            try:
                for level, told in CHECKS[what](part):
                    if (finding := Finding(level, what, told)) not in findings:
                        findings.append(finding)
            except StudyError as error:
                ended.setdefault(str(error), {})[what] = None
            except Exception as error:
                told = f"{type(error).__name__}: {first_line(error)} (a defect of this check)."
                ended.setdefault(told, {})[what] = None
    # One mistake may end several checks: it is told once, and last.
    for told, (first, *others) in ended.items():
        also = f" So these cannot be checked: {', '.join(others)}." if others else ""
        findings.append(Finding("failed", first, told + also))
    return findings


def verdict(findings: list[Finding]) -> tuple[bool, str]:
    """Whether the study may start, and a sentence that counts what was found."""
    failed, warnings = (sum(f.level == level for f in findings) for level in ("failed", "warning"))
    told = f"{failed} failed, {warnings} warnings, {len(findings)} findings"
    return failed == 0, f"preflight: {'not ready' if failed else 'ready'} ({told})."


def check_config(forecast: Forecast) -> Told:
    """How much the config asks for. (That it is valid is known: it was read.)"""
    study, config = forecast.study, forecast.config
    study.cells  # noqa: B018 (raises where two cells are one run)
    seeds = len(config.seeds.report)
    told = f"{len(config.projectors)} projectors, {len(study.points)} tuning cells"
    if (times := len(config.seeds.for_tuning)) > 1:
        told += f" of {times} seeds each"
    yield "ok", f"{told}, {seeds} report seeds, {len(study.controls)} runs of controls."
    if seeds < 2:
        yield "warning", "one report seed; without a second there are no ranks."
    require_trackers(config.runtime.trackers)


# ---- Are the models here, of the right kind, safe to open, and do they fit each other?


def check_vision(forecast: Forecast) -> Told:
    """The encoder: kind, weights, and an image processor that gives frames of the tower's size."""
    vision = forecast.config.vision
    raw, source = _config(vision, "vision"), f"vision.model '{vision.model}'"
    family = vision_family(raw, source)
    yield _weights("vision", vision.model, vision.revision, vision.weights)
    tower, size = tower_config(raw, source), frame_size(raw, vision.model, "vision.model")
    check_size(family, tower, size, source)
    rows, columns = patch_grid(tower, size)
    yield "ok", f"frames of {size[0]}×{size[1]} pixels are {rows}×{columns} patches."
    for layer in vision.layers:
        check_layer(layer, int(tower.num_hidden_layers), source)
    if vision.weights == "pretrained" and _are_here(vision):
        _lay_out(family.model, tower.to_dict(), vision, "vision.model", **family.options)


def check_llm(forecast: Forecast) -> Told:
    """The language model: kind, weights, and layers for the adapters."""
    llm = forecast.config.llm
    raw, source = _config(llm, "llm"), f"llm.model '{llm.model}'"
    layers = llm_shape(llm_config(raw, source).to_dict(), source).linears()
    yield _weights("llm", llm.model, llm.revision, llm.weights)
    yield from _of_the_demo(forecast, llm.model)
    check_targets(llm.lora, layers)
    if llm.weights == "pretrained" and _are_here(llm):
        load_llm(llm.model_copy(update={"matmul": "bf16"}), _NOWHERE)
    if llm.quantization == "nf4":
        if importlib.util.find_spec("bitsandbytes") is None:
            yield "failed", "llm.quantization is nf4 and bitsandbytes is not installed."
        else:
            yield "ok", "bitsandbytes is installed for NF4."


def check_tokenizer(forecast: Forecast) -> Told:
    """The tokenizer: it fits the model's vocabulary, has a chat template, and knows the markers."""
    llm, tokenizer = forecast.config.llm, forecast.tokenizer
    if tokenizer is None:
        yield "failed", _no_tokenizer(llm.model)
        return
    vocab = int(llm_config(_config(llm, "llm"), f"llm.model '{llm.model}'").vocab_size)
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
    kind, source = raw.get("model_type", ""), f"scorer.model '{scorer.model}'"
    if kind not in SCORER_FAMILIES:
        known = ", ".join(SCORER_FAMILIES)
        yield "failed", f"{scorer.model} is of type '{kind}'; expected {known}."
        return
    yield _weights("scorer", scorer.model, scorer.revision, scorer.weights)
    yield from _of_the_demo(forecast, scorer.model)
    size = frame_size(raw, scorer.model, "scorer.model")
    if not SCORER_FAMILIES[kind].naflex:
        check_size(VISION_FAMILIES[kind], tower_config(raw, source), size, source)
    yield "ok", f"frames of {size[0]}×{size[1]} pixels fit the tower."
    if scorer.model == forecast.config.vision.model:
        yield "warning", "it is the captioning encoder; expected another model as judge."
    if has_tokenizer(scorer.model, scorer.revision):
        open_tokenizer(scorer.model, scorer.revision, "scorer.model", fetch=False)
    elif scorer.weights == "pretrained":
        yield "failed", _no_tokenizer(scorer.model)
    if scorer.weights == "pretrained" and _are_here(scorer):
        _lay_out(SCORER_FAMILIES[kind].model, raw, scorer, "scorer.model")


def check_bertscore(forecast: Forecast) -> Told:
    """BERTScore's encoder, where one is configured."""
    bert = forecast.config.bertscore
    if bert is None:
        yield "ok", "not configured, so not computed."
    else:
        yield _weights("bertscore", bert.model, None, "pretrained")
        if not has_tokenizer(bert.model, None):
            yield "failed", _no_tokenizer(bert.model)
        raw = architecture(bert.model, None, "bertscore.model")
        config = complete_config(raw, f"bertscore.model '{bert.model}'")
        layers = getattr(config, "num_hidden_layers", bert.layer)
        if bert.layer > layers:
            yield "failed", f"bertscore.layer is {bert.layer}; expected 1 to {layers}."


def check_projectors(forecast: Forecast) -> Told:
    """Every projector can be built between these models."""
    models, frames = forecast.models, forecast.config.vision.frames
    built: dict[Connector, str] = {}
    for cell in [*forecast.study.tuning, *forecast.study.controls]:
        if seen_by(cell.run) == seen_by(forecast.config):
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
    """A model's ``config.json``; raises StudyError where its weights are quantised already."""
    raw = architecture(section.model, section.revision, f"{what}.model")
    require_whole(raw, section.model, section.revision, f"{what}.model")
    return raw


def _weights(what: str, model: str, revision: str | None, weights: str) -> tuple[Level, str]:
    """Safetensors are there, and whole; a pickle is never opened."""
    if weights == "random":
        return "warning", f"{model} is given random weights; for speed alone."
    require_folder(model, f"{what}.model")
    shards = shard_names(model, revision)
    absent = [name for name in shards if own_file(model, revision, name) is None]
    if absent and own_file(model, revision, f"{_WHOLE}.index.json") is not None:
        return "failed", f"{model}: {absent[0]} is missing; expected every file of its index."
    if absent:
        if any(own_file(model, revision, name) is not None for name in _PICKLES):
            told = f"{model} has its weights as a pickle only; expected safetensors."
        elif is_folder(model):
            told = f"{model} holds no {_WHOLE}; expected a model with its weights."
        else:
            told = f"the weights of {model} are not on this machine; {FETCH_HINT}."
        return "failed", told
    if (name := spoilt_weight(model, revision)) is not None:
        told = f"the weight '{name}' of {model} is NaN or infinite"
        return "failed", f"{told}; expected finite ones: fetch or train it anew."
    return "ok", f"{model} is here, in safetensors."


def _of_the_demo(forecast: Forecast, model: str) -> Told:
    """Warn of a micro model before other clips than the demo's."""
    log = Path(model) / "training.json"
    if forecast.config.demo is not None or not is_folder(model) or not log.is_file():
        return
    if str(read_settings(log).get("schema")).startswith("demo_training/"):
        told = f"{model} was trained on the demo's world and knows no other"
        yield "warning", f"{told}; expected a real model for clips of your own."


#: Models are laid out there as a job will load them, without a byte of their weights.
_NOWHERE = torch.device("meta")


def _are_here(part: Any) -> bool:
    names = shard_names(part.model, part.revision)
    return all(own_file(part.model, part.revision, name) is not None for name in names)


def _lay_out(loader: str, settings: Mapping[str, Any], part: Any, key: str, **options: Any) -> None:
    """Raise StudyError where a frozen model's weights are not those that its config describes."""
    import transformers

    named = (part.model, part.revision, key, part.weights)
    load_frozen(getattr(transformers, loader), settings, *named, torch.float32, _NOWHERE, **options)


def _no_tokenizer(model: str) -> str:
    if is_folder(model):
        return f"{model} holds no tokenizer; expected a model with its own."
    return f"the tokenizer of {model} is not on this machine; {FETCH_HINT}."


# ---- Is the dataset there, does it have what the config names, and can its clips be read?


def check_data(forecast: Forecast) -> Told:
    """Folder, splits, labels; one clip of each split is decoded."""
    config = forecast.config
    data, root = config.data, config.data_root
    if root.is_dir():
        scans: dict[str, Scan] = {}
        for split in data.splits:
            try:
                scans[split] = forecast.scan(split)
            except StudyError as error:
                yield "failed", str(error)
        listings = related(scans, root)
        for name, listing in listings.items():
            yield from _split(config, root, name, listing)
        require_apart(
            (name, clip.group, clip.id) for name, own in listings.items() for clip in own.clips
        )
    elif config.demo is not None and data.root is None:
        yield "ok", f"the demo's clips will be made in {root}."
    else:
        yield "failed", f"data.root is {root}, and there is no such folder."


def _split(config: Config, root: Path, split: str, scan: SplitListing) -> Told:
    folder = dict[str, str](config.data.splits.items())[split]
    count, rejected = len(scan.clips), scan.rejected
    if not count:
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in rejected[:2])
        found = f" ({len(rejected)} rejected: {reasons})" if rejected else ""
        yield "failed", f"{split} ({root / folder}) has no usable clip with a label{found}."
        return
    if rejected:
        told = f"{len(rejected)} rejected, the first {rejected[0].path}: {rejected[0].reason}"
        yield "warning", f"{split}: {count} clips with labels, {told}."
    else:
        yield "ok", f"{split}: {count} clips with labels."
    if split != "train" and count < _FEW_CLIPS:
        yield "warning", f"{split}: {count} clips; intervals will be wide."
    if split == "held_out" and len({clip.group for clip in scan.clips}) < 2:
        yield "failed", f"{split}: one source video; expected two, to halve the split."
    if split == "held_out" and config.cross_fit and count < 6:
        yield "failed", f"{split}: {count} clips; expected 6, as each half needs three."
    # The first clip, read as the encoder will.
    clip = scan.clips[0]
    path = clip.path
    require_decoder(config.data.decoder)
    try:
        file = ClipFile(root / path, clip.start_s, clip.end_s)
        frames = read_frames(file, config.vision.frames)
    except ClipError as error:
        # One clip may be broken; the manifest rejects it by name.
        yield "warning", f"{split}: {path} cannot be decoded ({error})."
    else:
        yield "ok", f"{split}: {path} decodes, {frames.shape[2]}×{frames.shape[1]} pixels."


# ---- Is there room: on disk, on the GPU, and for the report?


def check_disk(forecast: Forecast) -> Told:
    """Features and checkpoints fit the disk of the output folder."""
    folder = existing_folder(Path(forecast.config.output_dir))
    free, needed = shutil.disk_usage(folder).free, forecast.disk().written
    level: Level = "failed" if needed > free else "warning" if needed > 0.8 * free else "ok"
    told = f"{gigabytes(needed)} will be written and {gigabytes(free)} are free"
    yield level, f"{told} in {folder}."


def check_gpu(forecast: Forecast) -> Told:
    """The leanest training step of every shape fits the GPU's memory; it can do what is asked."""
    runtime, here = forecast.config.runtime, torch.cuda.is_available()
    if forecast.config.llm.matmul == "fp8":
        device = "cuda" if here and runtime.device != "cpu" else "cpu"
        if reason := why_no_fp8(torch.device(device)):
            yield "failed", reason
    if runtime.device == "cpu":
        yield "ok", "runtime.device is cpu; none is needed."
    elif here:
        count = torch.cuda.device_count()
        if count < runtime.gpus:
            yield "failed", f"runtime.gpus is {runtime.gpus}, and there are {count}."
        total = torch.cuda.get_device_properties(0).total_memory
        yield memory_finding(forecast, total, torch.cuda.get_device_name())
    elif runtime.device == "cuda":
        yield "failed", "runtime.device is cuda, and PyTorch sees no GPU here."
    elif forecast.models.llm.layer_parameters > 1e9:
        told = (
            "on the CPU this study would take weeks (a login node may have none where its jobs do)"
        )
        yield "warning", f"PyTorch sees no GPU here; {told}."
    else:
        yield "ok", "none here; the models are small enough for the CPU."


def memory_finding(forecast: Forecast, total: float, name: str) -> tuple[Level, str]:
    """Whether every shape can be trained within ``total`` bytes of GPU ``name``.

    The figures are those of the plan that each training will make: one clip a pass, as many layers
    kept as configured, its margin, and the optimizer.
    """
    asked = forecast.config.runtime.memory_gb
    limit = min(total - OVERHEAD_BYTES, math.inf if asked is None else asked * GIB)
    least = {shape: forecast.training_bytes(shape) for shape in forecast.workload.steps}
    shape, most = max(least.items(), key=lambda item: item[1])
    told = (
        f"stage {shape.stage} of {forecast.workload.connectors[shape.connector]} needs at least "
        f"{most / GIB:.1f} GiB for its tensors (estimated); {limit / GIB:.1f} can be had on {name}."
    )
    return "failed" if most > limit else "ok", told


def check_report(forecast: Forecast) -> Told:
    """The output folder, where the report goes, can be written."""
    paths = forecast.study.paths
    paths.require_folder()
    report, nearest = paths.report, existing_folder(paths.report.parent)
    if report.is_dir():
        yield "failed", f"{report} is a folder; expected a file or nothing."
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield "failed", f"{nearest} cannot be written; expected a folder of yours."
    else:
        yield "ok", f"{report} can be written."


#: Checks of models, of which a study may have several of a kind.
_OF_PARTS = ("vision", "llm", "tokenizer", "projectors", "gpu")
#: What is checked, in this order; all of it, whatever fails.
CHECKS: dict[str, Callable[[Forecast], Told]] = {
    "config": check_config,
    "vision": check_vision,
    "llm": check_llm,
    "tokenizer": check_tokenizer,
    "scorer": check_scorer_model,
    "bertscore": check_bertscore,
    "projectors": check_projectors,
    "data": check_data,
    "disk": check_disk,
    "gpu": check_gpu,
    "report": check_report,
}
