"""What every part of the config is made of: its base class and the types of its values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
# A label becomes part of a path, a table cell and a chart legend.
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def _at_home(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError(f"no home folder is known for it ({error})") from None


def _writable_name(path: str) -> str:
    if "{" in path or "}" in path:
        raise ValueError("Snakemake takes braces in a path for wildcards; expected none")
    return path


# A path, or the name of a model, which may be one; ``~`` is the home folder.
HomePath = Annotated[str, AfterValidator(_at_home)]
OutputPath = Annotated[HomePath, AfterValidator(_writable_name)]


def _in_order(options: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(options.items()))


# Their order means nothing, but Snakemake compares parameters by their text: a config whose options
# were written in another order would train again.
Options = Annotated[dict[str, Any], AfterValidator(_in_order)]


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
