"""What every part of the config is made of: its base class and the types of its values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Value = TypeVar("Value")


def _no_switch(value: Any) -> Any:
    # YAML reads `yes` and `on` as true, which Python takes for 1.
    if isinstance(value, bool):
        raise _expected("a number")
    return value


def _expected(what: str) -> ValueError:
    return ValueError(f"expected {what}")


# Every number has an upper bound, far above what anybody runs: what a slip of the hand asks for
# would pass every check, and hang or overflow later. The range stands before the validator, or
# JSON schema does not have it.
Number = BeforeValidator(_no_switch)
Fraction = Annotated[float, Field(ge=0.0, le=1.0), Number]
Positive = Annotated[float, Field(gt=0.0, le=1e9), Number]
NotNegative = Annotated[float, Field(ge=0.0, le=1e9), Number]
Rate = Annotated[float, Field(gt=0.0, le=1e3), Number]
Count = Annotated[int, Field(ge=1, le=100_000), Number]
CountOrNone = Annotated[int, Field(ge=0, le=100_000), Number]
# All of a clip's frames are in memory at once.
Frames = Annotated[int, Field(ge=1, le=1024), Number]
Layer = Annotated[int, Field(ge=-1000, le=1000), Number]
Seed = Annotated[int, Field(ge=0, lt=2**63), Number]
# Lists of which each value is a training, or a look at all points of the grid.
MOST_LISTED = 1000
# A label becomes part of a path, a table cell and a chart legend.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def _at_home(path: str) -> str:
    if not path or not path.isprintable():
        raise _expected("a name of characters that can be seen")
    if len(path.encode()) > 1000 or any(len(part.encode()) > 200 for part in path.split("/")):
        raise _expected("a path of 1,000 bytes at most, and of 200 between two slashes")
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        raise _expected("a user of this machine behind the ~") from None


def _writable_name(path: str) -> str:
    if "{" in path or "}" in path:
        raise _expected("a path without braces, which Snakemake takes for wildcards")
    return path


# A path, or the name of a model, which may be one; ``~`` is the home folder.
HomePath = Annotated[str, AfterValidator(_at_home)]
OutputPath = Annotated[HomePath, AfterValidator(_writable_name)]


def _finite(value: Value) -> Value:
    """The same; what has no type of its own is searched for NaN and infinity, which no JSON has."""
    if isinstance(value, float) and not math.isfinite(value):
        raise _expected("finite numbers")
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            _finite(inner)
    return value


# An entry of ``include`` or ``exclude``.
Entry = Annotated[dict[str, Any], AfterValidator(_finite)]


def _in_order(options: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(options.items()))


# Their order means nothing, but Snakemake compares parameters by their text: a config whose options
# were written in another order would train again.
Options = Annotated[dict[str, Any], AfterValidator(_finite), AfterValidator(_in_order)]


def _apart(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or any(value in values[:place] for place, value in enumerate(values)):
        raise _expected("one at least, and each once")
    return values


# Of a tuple: some, and no two alike.
Apart = AfterValidator(_apart)
# The values of an axis.
Axis = Annotated[tuple[Value, ...], Field(max_length=MOST_LISTED), Apart, AfterValidator(_finite)]


class Section(BaseModel):
    """Base of every part of the config: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )


class ModelSection(Section):
    """A pretrained model, by name."""

    model: HomePath
    revision: str | None = Field(None, description="Pinned hub revision (a commit).")
    weights: Literal["pretrained", "random"] = Field(
        "pretrained", description="random: built from the model's config alone, to try speed."
    )
