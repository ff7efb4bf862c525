"""Reading a config: YAML or a mapping → a validated Config, or one sentence on a mistake."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from siglip_study.base.errors import StudyError, first_line
from siglip_study.config.axes import check_grid
from siglip_study.config.study import Config

# ---- What is wrong with a config, in one sentence that a user can act on.


def _known_keys(location: tuple[Any, ...], root: type[BaseModel]) -> list[str]:
    """Keys that would have been valid beside the last part of ``location``."""
    model: Any = root
    at_label = False
    for part in location[:-1]:
        if at_label:  # the key of a map: the section behind it is known already
            at_label = False
            continue
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            break
        at_label = "dict[" in str(field.annotation)
        model = inner_model(field.annotation)
    return list(getattr(model, "model_fields", ()))


def inner_model(annotation: Any) -> Any:
    """The Section inside ``X``, ``X | None`` or ``dict[str, X]``; else the annotation itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for arg in getattr(annotation, "__args__", ()):
        inner = inner_model(arg)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return annotation


def error_sentence(error: Mapping[str, Any], source: str, root: type[BaseModel]) -> str:
    """One sentence for what is wrong: the key, what was found, what was expected.

    Args:
        error: one of pydantic's ``errors()``.
        source: the file that is to be mended.
        root: the model of the whole config, which knows the keys.
    """
    location = tuple(error["loc"])
    # A label may be any text: its line breaks must not break the sentence.
    key = " ".join(".".join(str(part) for part in location).split())
    if error["type"] == "extra_forbidden":
        known = _known_keys(location, root)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}."
        return f"{source}: unknown key '{key}'; {hint}"
    if error["type"] == "missing":
        return f"{source}: key '{key}' is missing; it has no default."
    message = str(error["msg"]).removeprefix("Value error, ").rstrip(".")
    if error["type"] == "value_error" and not message.startswith("expected "):
        # Of a whole section, which begins with the name of a field.
        return f"{source}: {key}{'.' if key else ''}{message}."
    key = key.removesuffix(".[key]") or "the config"
    if error["type"] in _EXPECTED:
        message = "expected " + _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    return f"{source}: {key} is {_found(error['input'])}; {message}."


#: What pydantic means by a type of error, in the words of YAML.
_EXPECTED = {
    **dict.fromkeys(("dict_type", "model_type"), "a mapping of keys"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "a text",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "{min_length} at least",
    "too_long": "{max_length} at most",
    "invalid_key": "keys that are texts",
    "string_pattern_mismatch": "letters, digits, '_', '.' and '-', the first a letter or digit",
}


def _found(value: Any) -> str:
    """A value as a sentence holds it, however large it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 100
    return short.repr(value)


def plain_config(config: Config) -> dict[str, Any]:
    """Every key with its value, defaults included, as ``parse`` reads it back."""
    values = config.model_dump(mode="json")
    for tuned in ("learning_rate", "epochs"):  # of stage 2: the grid has them
        del values["stage2"][tuned]
    return values


def parse(raw: Mapping[str, Any], source: str = "config") -> Config:
    """Validate a mapping as it came from YAML or from Snakemake.

    Raises:
        StudyError: one sentence naming the first wrong key, what was found and what was expected.
    """
    _check_extent(raw, source)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise StudyError(error_sentence(error.errors()[0], source, Config)) from None
    try:
        check_grid(config)
    except ValidationError as error:
        where = f"{source}: {error.__notes__[0]}"
        raise StudyError(error_sentence(error.errors()[0], where, Config)) from None
    except ValueError as error:
        raise StudyError(f"{source}: {error}.") from None
    return config


#: Values and levels of a config; the largest study has a few hundred, in seven.
_MOST_VALUES, _MOST_LEVELS = 20_000, 20


def _check_extent(raw: object, source: str) -> None:
    """Refuse what YAML's anchors blow up, before anything copies it."""
    pending, seen = [(raw, 1)], 0
    while pending:
        value, level = pending.pop()
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise StudyError(f"{source}: found half a character in {_found(value)}; expected text.")
        inner = [*value.values()] if isinstance(value, Mapping) else value
        if not isinstance(inner, list | tuple):
            continue
        seen += len(inner)
        if seen > _MOST_VALUES or level > _MOST_LEVELS:
            found = f"more than {_MOST_VALUES} values" if level <= _MOST_LEVELS else "more levels"
            raise StudyError(
                f"{source}: found {found} (anchors may repeat each other); expected a study's "
                f"config, of at most {_MOST_LEVELS} levels."
            )
        pending += [(one, level + 1) for one in inner]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader; a key that stands twice in a mapping is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, name in enumerate(names):
            if name in names[:place] and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"found the key '{name}' twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> dict[str, Any]:
    """The keys of a YAML file, as they stand there.

    Raises:
        StudyError: the file is absent, or is no YAML mapping.
    """
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such config file.") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at {error.start}"
        raise StudyError(
            f"{path}: not UTF-8 ({found}; CP949, perhaps); expected YAML saved as UTF-8."
        ) from None
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise StudyError(f"{path}: not readable as YAML ({problem}).") from None
    except (ValueError, RecursionError) as error:  # a number or a nesting past Python's limits
        raise StudyError(f"{path}: not readable as YAML ({first_line(error)}).") from None
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: found {type(raw).__name__}; expected a mapping of keys.")
    return raw


def load(path: str | Path) -> Config:
    """Read a YAML config file.

    Raises:
        StudyError: the file is absent, is not YAML, or does not validate.
    """
    return parse(read(path), str(path))
