"""Where every model of a study is found and loaded: a local folder or a pinned hub revision.

``python -m siglip_study.models`` fetches them ahead. What a model consists of is read from its
settings; weights come from safetensors alone, all of them or none.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError, first_line, is_lost_gpu, is_out_of_memory
from siglip_study.base.io import sampled_digest
from siglip_study.models.families import check_sizes

#: The sentence part that tells how an absent model is fetched.
FETCH_HINT = "fetch it ahead with: python -m siglip_study.models fetch <your config>"


def is_path(model: str) -> bool:
    """Whether a model is spelt as a path; hub ids are ``owner/name``."""
    return model.startswith((".", "/", "~")) or model.count("/") != 1


def is_folder(model: str) -> bool:
    """Whether a model is a folder of this machine; a folder comes before a hub id."""
    return Path(model).is_dir()


def require_folder(model: str, key: str) -> None:
    """Say that a local folder is missing, where transformers would complain of its spelling.

    Raises:
        StudyError: ``model`` looks like a path and no such folder exists, or no hub has such an id.
    """
    if not is_path(model):
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        try:
            validate_repo_id(model)
        except HFValidationError:
            raise StudyError(
                f"{key} is '{model}'; expected a folder or a hub id such as "
                "'openai/clip-vit-large-patch14-336'."
            ) from None
    elif not is_folder(model):
        raise StudyError(
            f"{key} is '{model}', and there is no such folder; expected a model saved by "
            "save_pretrained or a hub id such as 'openai/clip-vit-large-patch14-336'."
        )


def cached_file(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a hub model in the local cache; None: not there. Never touches the network."""
    if is_path(model):
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def _unavailable(model: str, revision: str | None, key: str, error: Exception) -> StudyError:
    """The error for a model that cannot be read, with the command that fetches it ahead."""
    if isinstance(error, ValueError) and "trust_remote_code" in str(error):
        return StudyError(
            f"{key} '{model}' needs code that it brings along, which is never run; "
            "expected a model of a kind that transformers has."
        )
    first = first_line(error)
    if not isinstance(error, OSError | ValueError):
        first = f"{type(error).__name__}: {first}"
    if is_folder(model):
        return StudyError(f"{key} is the folder '{model}', which cannot be loaded ({first}).")
    pin = f" (revision {revision})" if revision else ""
    return StudyError(
        f"{key} is '{model}'{pin}, which is neither a folder nor in the local cache and cannot be "
        f"fetched ({first}); {FETCH_HINT}"
    )


def read_model_json(
    model: str, revision: str | None, names: tuple[str, ...], key: str
) -> dict[str, Any]:
    """The first of these JSON files that the model has.

    Raises:
        StudyError: the model is not at hand, has none of them, or the file is not JSON.
    """
    require_folder(model, key)
    problem: Exception = FileNotFoundError(f"it has no {' or '.join(names)}")
    for name in names:
        path = Path(model) / name
        if not is_folder(model):
            from huggingface_hub import hf_hub_download

            try:
                path = Path(hf_hub_download(model, name, revision=revision))
            except (OSError, ValueError) as error:
                problem = error
                continue
        if path.is_file():
            return read_settings(path)
    raise _unavailable(model, revision, key, problem)


def own_file(model: str, revision: str | None, name: str) -> Path | None:
    """A file of a model on this machine, in its folder or the hub's cache; None: not there."""
    if is_folder(model):
        path = Path(model) / name
        return path if path.is_file() else None
    return cached_file(model, revision, name)


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file of settings.

    Raises:
        StudyError: it is not JSON, or no mapping.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise StudyError(f"{path}: not JSON ({error}); expected settings.") from None
    if not isinstance(found, dict):
        raise StudyError(f"{path}: found a {type(found).__name__}; expected a mapping of settings.")
    return found


# ---- A model's sizes, which for those that the shipped configs name are packaged as well, so that
# they can be built with no network. Each JSON file of ``architectures/`` holds a model's ``config``
# (what shapes and tokens depend on, in transformers' spelling; the rest is its config class's
# defaults) and, for image towers, its ``image_processor``. A model's own files come first.

_SIZES = files("siglip_study.models") / "architectures"
_CONFIG = "config.json"


def architecture(model: str, revision: str | None = None, key: str = "model") -> dict[str, Any]:
    """A model's config: its own ``config.json`` if at hand, else the packaged sizes.

    Never touches the network; packaged sizes are the same for every revision.
    :func:`architecture_source` tells which of the two it is. Errors name ``key``.

    Raises:
        StudyError: no such folder, no JSON, or neither cached nor packaged.
    """
    require_folder(model, key)
    path = own_file(model, revision, _CONFIG)
    if path is not None:
        return read_settings(path)
    packaged = _packaged(model)
    if packaged is None or is_folder(model):
        raise StudyError(
            f"{key} '{model}': its {_CONFIG} is not on this machine, and its sizes are not among "
            f"those packaged ({', '.join(packaged_models())}); {FETCH_HINT}"
        )
    return dict(packaged["config"])


def settings_of(model: str, revision: str | None, key: str, random: bool) -> dict[str, Any]:
    """A model's config as it is to be built: its own, fetched if need be.

    For random weights the packaged sizes will do where nothing is on this machine.

    Raises:
        StudyError: not at hand, or quantised already.
    """
    require_folder(model, key)
    if random and architecture_source(model, revision) != "absent":
        raw = architecture(model, revision, key)
    else:
        raw = read_model_json(model, revision, (_CONFIG,), key)
    check_sizes(raw, f"{key} '{model}'")
    require_whole(raw, model, revision, key)
    return raw


# Where a config says that weights are quantised, and files that older tools put beside it.
_QUANTIZED_KEYS = ("quantization_config", "compression_config")
_QUANTIZED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
#: How safetensors spell the types of whole weights.
_WHOLE = {"F64", "F32", "F16", "BF16"}


def require_whole(raw: dict[str, Any], model: str, revision: str | None, key: str) -> None:
    """Refuse a checkpoint that is quantised already: a study packs weights itself, or not at all.

    Looks at its ``config.json``, ``raw``, at files beside it, and at the types of weights that are
    on this machine.

    Raises:
        StudyError: it is quantised (bitsandbytes, GPTQ, AWQ, compressed-tensors, FP8, MXFP4 …).
    """
    found = None
    halves = (raw.get(half) for half in ("text_config", "vision_config"))
    for part, name in itertools.product([raw, *halves], _QUANTIZED_KEYS):
        if isinstance(part, dict) and (settings := part.get(name)):
            method = settings.get("quant_method") if isinstance(settings, dict) else settings
            found = found or f"{name}: {method or 'of no named method'}"
    beside = (name for name in _QUANTIZED_FILES if own_file(model, revision, name) is not None)
    if found := found or next(beside, None) or _packed_weight(model, revision):
        raise StudyError(
            f"{key} '{model}' is quantised already ({found}); expected the model with its weights "
            "in bf16, fp16 or fp32 (llm.quantization: nf4 packs an LLM as it is loaded)."
        )


def _packed_weight(model: str, revision: str | None) -> str | None:
    """The first matrix on this machine whose type is not that of whole weights."""
    for path in _shards_here(model, revision):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                dtype = file.get_slice(name).get_dtype()
                if name.endswith(".weight") and dtype not in _WHOLE:
                    return f"{name} is {dtype}"
    return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A file of safetensors, whole by its header; StudyError: it is none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        with path.open("rb") as begun:
            is_pointer = begun.read(len(_POINTER)) == _POINTER
        why = "it is a pointer of Git LFS" if is_pointer else first_line(error)
        mend = "the file that `git lfs pull` brings" if is_pointer else "whole safetensors"
        raise StudyError(f"{path}: cannot be read ({why}); expected {mend}.") from None


#: What stands in a repository in the place of a file that Git LFS keeps elsewhere.
_POINTER = b"version https://git-lfs"


def shard_names(model: str, revision: str | None) -> list[str]:
    """Names of the safetensors that a model consists of, those absent from this machine too.

    Raises:
        StudyError: the index of its shards cannot be read.
    """
    index = own_file(model, revision, "model.safetensors.index.json")
    # transformers looks for one file first.
    if index is None or own_file(model, revision, "model.safetensors") is not None:
        return ["model.safetensors"]
    shards = read_settings(index).get("weight_map")
    if not isinstance(shards, dict):
        raise StudyError(f"{index}: has no weight_map; expected an index of safetensors.")
    # Names alone: an index may not lead out of its folder.
    return sorted({Path(str(name)).name for name in shards.values()})


def _shards_here(model: str, revision: str | None) -> list[Path]:
    """The safetensors of a model that are on this machine; none is fetched."""
    found = (own_file(model, revision, name) for name in shard_names(model, revision))
    return [path for path in found if path is not None]


#: Weights of a file up to which all are looked at; of a larger one the first row of each tensor.
_LOOKED_AT = 2**26


def spoilt_weight(model: str, revision: str | None) -> str | None:
    """A weight on this machine that is NaN or infinite, by name; None: none was found."""
    import torch

    for path in _shards_here(model, revision):
        whole = path.stat().st_size <= _LOOKED_AT
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                tensor = file.get_slice(name)
                shape = tensor.get_shape()
                rows = tensor[:] if whole else tensor[: 1 if len(shape) > 1 else 1024]
                if rows.is_floating_point() and not torch.isfinite(rows).all():
                    return str(name)
    return None


def model_stamp(model: str, revision: str | None) -> tuple[tuple[str, int, int], ...]:
    """Name, bytes and time of the config and weights on this machine: others are another model."""
    config = own_file(model, revision, _CONFIG)
    files = [*([] if config is None else [config]), *_shards_here(model, revision)]
    return tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def model_digest(model: str, revision: str | None) -> list[tuple[str, str]]:
    """Name and sampled digest of a model's config, tokenizer and weights on this machine.

    What differs, wherever the model lies, is another model; of large files pieces are looked at.
    """
    settings = (own_file(model, revision, name) for name in (_CONFIG, *_TOKENIZERS))
    files = [*filter(None, settings), *_shards_here(model, revision)]
    return [(path.name, sampled_digest(path)) for path in files]


def architecture_source(model: str, revision: str | None = None) -> str:
    """Where :func:`architecture` finds a model: "folder", "hub cache", "packaged" or "absent"."""
    if own_file(model, revision, _CONFIG) is not None:
        return "folder" if is_folder(model) else "hub cache"
    return "absent" if is_folder(model) or _packaged(model) is None else "packaged"


def image_processor(model: str) -> dict[str, Any] | None:
    """The packaged image settings of a hub model; None: not packaged, or not an image model."""
    return (_packaged(model) or {}).get("image_processor")


def packaged_models() -> list[str]:
    """Hub ids of the models whose sizes are packaged."""
    names = (entry.name for entry in _SIZES.iterdir())
    return sorted(n.removesuffix(".json").replace("--", "/") for n in names if n.endswith(".json"))


def _packaged(model: str) -> dict[str, Any] | None:
    if model not in packaged_models():
        return None
    path = _SIZES.joinpath(model.replace("/", "--") + ".json")
    return dict(json.loads(path.read_text("utf-8")))


# ---- Loading what is found: never a pickle, never code that a model brings along.


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Load without the report on the checkpoint's other half, left out on purpose."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


#: Files of which every tokenizer has one.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")


def has_tokenizer(model: str, revision: str | None) -> bool:
    """Whether a model's tokenizer is on this machine."""
    return any(own_file(model, revision, name) is not None for name in _TOKENIZERS)


def open_tokenizer(model: str, revision: str | None, key: str, fetch: bool = True) -> Any:
    """A model's tokenizer; without ``fetch`` from this machine alone.

    Raises:
        StudyError: the model is not at hand, or has no tokenizer that makes tokens.
    """
    from transformers import AutoTokenizer

    require_folder(model, key)
    if is_folder(model) and not has_tokenizer(model, revision):
        # transformers would make an empty one.
        raise StudyError(
            f"{key} '{model}' has no tokenizer; expected one of {', '.join(_TOKENIZERS)}."
        )
    if (config := own_file(model, revision, _CONFIG)) is not None:
        check_sizes(read_settings(config), f"{key} '{model}'")  # transformers reads it as well
    try:
        with quiet_transformers():
            # Left open, transformers asks on the terminal, and runs code on a "y".
            tokenizer = AutoTokenizer.from_pretrained(
                model,
                revision=revision or "main",
                trust_remote_code=False,
                local_files_only=not fetch,
            )
    except Exception as error:  # whatever its code makes of files that are damaged
        raise _unavailable(model, revision, key, error) from None
    if not isinstance(longest := tokenizer.model_max_length, int | float):
        raise StudyError(
            f"{key} '{model}': its tokenizer's model_max_length is {longest!r}; expected a number."
        )
    return tokenizer


#: By this file transformers tells adapters, and takes another model for their base.
_ADAPTERS = "adapter_config.json"
#: Options of :func:`load_weights` that read no weight, and account for all of them.
LAID_OUT = {"device_map": {"": "meta"}, "local_files_only": True}


def load_weights(
    loader: Any, model: str, revision: str | None, key: str, dtype: Any, **options: Any
) -> Any:
    """``loader.from_pretrained`` from safetensors alone, with every weight accounted for.

    Raises:
        StudyError: the model is not at hand, has no safetensors, or lacks weights or has them in
            other shapes, which transformers would fill with noise; or it has adapters beside its
            weights, whose settings name a module that peft would import.
    """
    require_folder(model, key)
    if own_file(model, revision, _ADAPTERS) is not None:
        raise StudyError(
            f"{key} '{model}' has an {_ADAPTERS}; expected a model with its adapters merged "
            "into its weights."
        )
    try:
        with quiet_transformers():
            loaded, report = loader.from_pretrained(
                model,
                revision=revision or "main",
                dtype=dtype,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below
                trust_remote_code=False,
                **options,
            )
    except Exception as error:  # as above
        if is_lost_gpu(error):
            raise
        if is_out_of_memory(error):
            raise StudyError(
                f"{key} '{model}' does not fit into the GPU's memory ({first_line(error)}); "
                "expected a GPU with more free memory, or a smaller or quantised model."
            ) from None
        raise _unavailable(model, revision, key, error) from None
    for name, found, wanted in sorted(report["mismatched_keys"]):
        raise StudyError(
            f"{key} '{model}': its weight '{name}' has the shape {list(found)}; expected "
            f"{list(wanted)}, by its config."
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise StudyError(
            f"{key} '{model}': {len(missing)} weights are missing, the first is '{missing[0]}'; "
            f"expected a complete {loader.__name__}."
        )
    return loaded.eval().requires_grad_(False)
