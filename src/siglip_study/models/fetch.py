"""The models of a study: which there are, which are on this machine, and fetching the others.

Run with: ``python -m siglip_study.models fetch config/study.yaml`` where there is a network, or
``python -m siglip_study.models list config/study.yaml`` anywhere.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.config.study import Config
from siglip_study.models.client import Hub
from siglip_study.models.hub import cached_file, is_folder, read_settings, require_folder
from siglip_study.study import Study

# What a model on the hub consists of: never a pickle.
_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SETTINGS = re.compile(r"[\w.-]+\.(json|jinja|model)|(merges|vocab)\.txt")
_FOREIGN = re.compile(
    r"(pytorch_model|tf_model|flax_model|consolidated|adapter)\b.*|.*\.index\.json"
)


def weight_files(names: Iterable[str]) -> list[str]:
    """The safetensors that transformers reads, and their index; empty: there are none."""
    found = sorted(names)
    if _WHOLE in found:
        return [_WHOLE]
    shards = [name for name in found if _SHARD.fullmatch(name)]
    return [*shards, _INDEX] if shards and _INDEX in found else []


def setting_files(names: Iterable[str]) -> list[str]:
    """Config, tokenizer, chat template and image settings: root-level text and vocabularies."""
    found = (name for name in names if _SETTINGS.fullmatch(name))
    return sorted(name for name in found if not _FOREIGN.fullmatch(name))


State = Literal["folder", "cached", "incomplete", "absent"]


@dataclass(frozen=True)
class Model:
    """A model that a config names; ``key`` is where."""

    key: str
    model: str
    revision: str | None
    needs_weights: bool = True
    needs_tokenizer: bool = False
    can_be_pinned: bool = True

    def __str__(self) -> str:
        pin = f" @ {self.revision[:12]}" if self.revision else ""
        return f"{self.key}: {self.model}{pin}"


def models_of(config: Config) -> list[Model]:
    """The models of a config; of one with random weights only config and tokenizer are needed."""
    study, scorer, bert = Study(config), config.scorer, config.bertscore
    found = [
        Model("vision.model", vision.model, vision.revision, vision.weights == "pretrained")
        for vision in study.encoders.values()
    ]
    found += [
        Model("llm.model", llm.model, llm.revision, llm.weights == "pretrained", True)
        for llm in study.llms
    ]
    found = [
        *dict.fromkeys(found),
        Model("scorer.model", scorer.model, scorer.revision, scorer.weights == "pretrained", True),
    ]
    if bert is not None:
        found.append(Model("bertscore.model", bert.model, None, True, True, can_be_pinned=False))
    return found


def state(model: Model) -> tuple[State, int]:
    """Where a model is, and the bytes of what is there; the network is not asked."""
    config = cached_file(model.model, model.revision, "config.json")
    folder = Path(model.model) if is_folder(model.model) else config and config.parent
    if folder is None:
        return "absent", 0
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    files = {name: size for name, size in sizes.items() if size}  # an empty one was cut off
    size = sum(files[name] for name in _wanted(model, files))
    needed = {"config.json"}
    if model.needs_weights and _WHOLE not in files:
        needed |= {_INDEX, *_weights_of_index(folder / _INDEX)}
    has_tokenizer = any(name.startswith("tokenizer") for name in files)
    if not needed <= set(files) or (model.needs_tokenizer and not has_tokenizer):
        return "incomplete", size
    return ("folder" if is_folder(model.model) else "cached"), size


def _weights_of_index(index: Path) -> set[str]:
    if not index.is_file():
        return set()
    named = read_settings(index).get("weight_map")
    if not isinstance(named, dict):
        raise StudyError(f"{index}: it has no weight_map; expected the files of each weight.")
    return set(named.values())


def fetch(model: Model, hub: Hub, say: Callable[[str], None] = print) -> Path:
    """Bring a model's config, tokenizer and safetensors into the hub's cache.

    Where the repository holds its weights only as a pickle, the safetensors that the hub's own
    converter made of them are fetched, and the commit to pin is told. Gives the files' folder.

    Raises:
        StudyError: a folder that is not there, no safetensors, no room, or the hub's refusal.
    """
    from huggingface_hub import constants

    require_folder(model.model, model.key)
    there, size = state(model)
    if there in ("folder", "cached"):
        say(f"{model}: already there ({there}, {_gb(size)})")
        config = cached_file(model.model, model.revision, "config.json")
        return Path(model.model) if config is None else config.parent
    if is_folder(model.model):
        raise StudyError(
            f"{model.key} is the folder '{model.model}', which lacks files; expected a model saved "
            "by save_pretrained, with safetensors" + (" and its tokenizer." * model.needs_tokenizer)
        )
    revision, found = model.revision, hub.files(model.model, model.revision)
    if model.needs_weights and not weight_files(found.sizes):
        reference = hub.converted(model.model) if model.can_be_pinned else None
        if reference is not None:
            found = hub.files(model.model, reference)
            revision = found.commit
        if not weight_files(found.sizes):
            raise StudyError(
                f"{model.key} '{model.model}' has no safetensors on the hub, and pickles are never "
                "opened; expected another revision, or a folder made once by save_pretrained on a "
                "machine where you trust the file."
            )
    names = _wanted(model, found.sizes)
    missing = [n for n in names if not _has(model.model, revision, n, found.sizes[n])]
    new = sum(found.sizes[name] for name in missing)
    cache = Path(constants.HF_HUB_CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free
    if new > free:
        raise StudyError(
            f"{model.key} '{model.model}' needs {_gb(new)} in {cache}, where {_gb(free)} are "
            "free; expected more room, or HF_HOME on another disk."
        )
    say(f"{model}: {_gb(sum(found.sizes[n] for n in names))}, {_gb(new)} to fetch")
    folder = hub.download(model.model, revision, names)
    if revision != model.revision:
        say(
            f"  its weights were a pickle; pin what the hub's converter made of them, in your "
            f"config: {model.key.replace('.model', '.revision')}: {revision}"
        )
    elif revision is None and model.can_be_pinned:
        say(f"  to pin it: {model.key.replace('.model', '.revision')}: {found.commit}")
    return folder


def _has(model: str, revision: str | None, name: str, size: int) -> bool:
    """Whether a file is in the cache; an empty one that should not be is cleared away."""
    path = cached_file(model, revision, name)
    if path is None or path.stat().st_size or not size:
        return path is not None
    blob = path.resolve()  # the cache's files are links; the client takes either for the whole
    path.unlink()
    blob.unlink(missing_ok=True)
    return False


def _wanted(model: Model, names: Iterable[str]) -> list[str]:
    names = list(names)
    weights = weight_files(names) if model.needs_weights else []
    return sorted({*setting_files(names), *weights})


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def main(arguments: list[str] | None = None, hub: Hub | None = None) -> int:
    """Command line; 0: every model is there."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.models", description=__doc__)
    parser.add_argument("action", choices=("list", "fetch"))
    parser.add_argument("config", type=Path, help="the study's YAML file")
    given = parser.parse_args(arguments)

    def run() -> int:
        models = models_of(load(given.config))
        if given.action == "fetch":
            for model in models:
                fetch(model, hub or Hub())
        else:
            for model in models:
                there, size = state(model)
                print(f"{model}: {there}" + (f", {_gb(size)}" if size else ""))
        return 0 if all(state(model)[0] in ("folder", "cached") for model in models) else 1

    return exit_status(run)
