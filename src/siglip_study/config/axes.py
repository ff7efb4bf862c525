"""Axes of the grid: any key that a training depends on, by its dotted name (``llm.lora.r``).

A *point* is dotted key → value: all by which the cells of one projector and seed are told apart.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from siglip_study.config.training import StageConfig
from siglip_study.config.types import ModelSection

if TYPE_CHECKING:
    from siglip_study.config.study import Config

Point: TypeAlias = dict[str, Any]

#: Parts of the config that a training depends on.
PARTS = ("vision", "llm", "training", "stage1", "stage2")
#: The two keys that have names of their own in ``grid``.
RATE, EPOCHS = "stage2.learning_rate", "stage2.epochs"
_NAMED = {"learning_rate": RATE, "epochs": EPOCHS}
#: Before a projector's own option, which only its own grid can name.
_OPTION = "options."
#: Cells of a study: hundreds, of GPU hours each. What is far beyond is a slip, and never ends.
_MOST_CELLS = 100_000


def points(config: Config, label: str) -> list[Point]:
    """The points of a projector: every value of every axis, without ``exclude``, with ``include``.

    Raises:
        ValueError: a key is none that a training depends on; pydantic's, with a note of the grid
            that holds it, where a value is none that its key may have.
    """
    own = config.projectors[label]
    where = {**dict.fromkeys(_grid(config), "grid"), **dict.fromkeys(own.grid, _own_grid(label))}
    axes = _axes(config, label)
    # One a value: the keys that it sets, several where it is a mapping.
    values = [
        [_point(config, where[axis], {axis: one}, axis in own.grid) for one in several]
        for axis, several in axes.items()
    ]
    keys = [key for axis in values for key in {key for point in axis for key in point}]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"grid has {twice[0]} on two axes; expected each key on one")
    left_out = [entry for _, entry in _entries(config, "exclude", label)]
    found = [p for p in _product(values) if not any(_holds(p, entry) for entry in left_out)]
    for _, entry in _entries(config, "include", label):
        others = [axis for axis in values if not any(entry.keys() & point for point in axis)]
        found += [{**point, **entry} for point in _product(others)]
    return found


def first_point(config: Config) -> Point:
    """The first rate, the longest budget, and of other axes the config's own value, else the first.

    So a key that becomes an axis trains nothing anew that was there.
    """
    firsts = []
    for axis, values in _grid(config).items():
        several = [_point(config, "grid", {axis: value}) for value in values]
        own = [
            p for p in several if axis not in _NAMED and _holds(p, {k: _own(config, k) for k in p})
        ]
        firsts.append((own or several)[0])
    return {**_joined(firsts), EPOCHS: max(config.grid.epochs)}


def having(config: Config, point: Mapping[str, Any]) -> Config:
    """The config with the values of a point, but for options of a projector.

    Where only a model changes, the commit that the other one was pinned to goes.

    Raises:
        ValidationError: pydantic's, where a value is none that its key may have.
    """
    raw: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set}
    for part in {key.split(".")[0] for key in point} & {*PARTS}:
        raw[part] = getattr(config, part).model_dump(exclude_unset=True)
        for named in _NAMED if part == "stage2" else ():  # the config may not name them
            raw[part].pop(named, None)
        if point.get(f"{part}.model", raw[part].get("model")) != raw[part].get("model"):
            raw[part].pop("revision", None)
    for key, value in point.items():
        if key not in (RATE, EPOCHS) and not key.startswith(_OPTION):
            _put(raw, key.split("."), value)
    found = type(config).model_validate(raw)
    tuned = {name: point[key] for name, key in _NAMED.items() if key in point}
    if not tuned:
        return found
    stage2 = StageConfig.model_validate({**found.stage2.model_dump(), **tuned})
    return found.model_copy(update={"stage2": stage2})


def options_of(point: Mapping[str, Any]) -> dict[str, Any]:
    """The options of its projector that a point sets."""
    return {k.removeprefix(_OPTION): v for k, v in point.items() if k.startswith(_OPTION)}


def check_grid(config: Config) -> None:
    """Raise ValueError, as :func:`points`, where the grid says what cannot be."""
    _check_size(config)
    first_point(config)
    grids = {label: points(config, label) for label in config.projectors}
    for label, own in grids.items():
        if not own:
            raise ValueError(f"grid.exclude leaves no point to {label}; expected one at least")
        same = [point for i, point in enumerate(own) if point in own[:i]]
        if same:
            told = " · ".join(told_value(key, value) for key, value in same[0].items())
            raise ValueError(f"grid has {label} · {told} twice; expected each point once")
    everything = config.model_copy(
        update={"grid": config.grid.model_copy(update={"exclude": (), "include": ()})}
    )
    for name in ("exclude", "include"):
        for i, entry in enumerate(getattr(config.grid, name)):
            who = entry.get("projector")
            if who is not None and who not in [*config.projectors]:
                known = ", ".join(config.projectors)
                raise ValueError(
                    f"grid.{name}.{i}.projector is {who!r}; expected one of projectors: {known}"
                )
    used = set()
    for label in config.projectors if config.grid.exclude else ():
        whole = points(everything, label)
        for i, entry in _entries(config, "exclude", label):
            if i not in used and any(_holds(point, entry) for point in whole):
                used.add(i)
    for i in range(len(config.grid.exclude)):
        if i not in used:
            raise ValueError(f"grid.exclude.{i} leaves out nothing; expected points of the grid")


def _check_size(config: Config) -> None:
    """Raise ValueError where the grid, which nothing has expanded yet, holds too many cells."""
    found = 0
    for label in config.projectors:
        # Of each axis: how many values, and the keys that they set.
        axes = [
            (len(several), {_key(key) for one in several for key, _ in _leaves({axis: one})})
            for axis, several in _axes(config, label).items()
        ]
        found += math.prod(count for count, _ in axes)
        for entry in config.grid.include:
            if entry.get("projector", label) == label:
                named = {_key(key) for key, _ in _leaves(entry)}
                found += math.prod(count for count, keys in axes if not keys & named)
    found *= len(config.seeds.for_tuning) + len(config.seeds.report)
    if config.controls.permuted_captions is not None:
        found += config.controls.permuted_draws
    if found > _MOST_CELLS:
        raise ValueError(
            f"grid has more than {_MOST_CELLS:,} cells, with every seed and before exclude; "
            "expected fewer values on its axes"
        )


# ---- What the config says, as points.


def _grid(config: Config) -> dict[str, Sequence[Any]]:
    """Axis → values, those that change fastest last."""
    grid = config.grid
    return {**(grid.model_extra or {}), "learning_rate": grid.learning_rate, "epochs": grid.epochs}


def _axes(config: Config, label: str) -> dict[str, Sequence[Any]]:
    """The same of one projector, with what is its own."""
    own = config.projectors[label]
    return {**_grid(config), **({"epochs": own.epochs} if own.epochs else {}), **own.grid}


def _own_grid(label: str) -> str:
    return f"projectors.{label}.grid"


def _entries(config: Config, name: str, label: str) -> Iterator[tuple[int, Point]]:
    """Entries of ``include`` or ``exclude`` that concern a projector, with their places."""
    for i, entry in enumerate(getattr(config.grid, name)):
        if entry.get("projector", label) == label:
            values = {key: value for key, value in entry.items() if key != "projector"}
            yield i, _point(config, f"grid.{name}.{i}", values, "projector" in entry)


def _point(
    config: Config, where: str, values: Mapping[str, Any], of_projector: bool = False
) -> Point:
    """Values by dotted key, mappings taken apart, each as its key's type has it."""
    found = {}
    for key, value in _leaves(values):
        key = " ".join(key.split())
        if key in (RATE, EPOCHS):
            name = key.removeprefix("stage2.")
            raise ValueError(f"{where} names {key}; expected it as {name}")
        key = _key(key)
        if of_projector and key.startswith(_OPTION):
            found[key] = value
        elif key.split(".")[0] not in PARTS:
            known = ", ".join(PARTS)
            raise ValueError(
                f"{where} names {key}, on which no training depends; expected learning_rate, "
                f"epochs or a key under {known}"
            )
        else:
            try:
                found[key] = _own(having(config, {key: value}), key)
            except ValidationError as error:
                error.add_note(where)
                raise
    return found


def _key(key: str) -> str:
    key = " ".join(key.split())
    return _NAMED.get(key, key)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and not f"{prefix}{key}".startswith(_OPTION):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _product(axes: Iterable[Sequence[Point]]) -> list[Point]:
    return [_joined(chosen) for chosen in itertools.product(*axes)]


def _joined(parts: Iterable[Point]) -> Point:
    return dict(itertools.chain.from_iterable(part.items() for part in parts))


def _holds(point: Point, entry: Point) -> bool:
    return entry.items() <= point.items()


def _own(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part, None)
    return found


def _put(raw: dict[str, Any], parts: Sequence[str], value: Any) -> None:
    for part in parts[:-1]:
        if not isinstance(raw.get(part), dict):
            raw[part] = {}
        raw = raw[part]
    raw[parts[-1]] = value


# ---- What people read.


def told_key(key: str) -> str:
    """A key as short as it can be told from the others: ``r`` for ``llm.lora.r``."""
    last = key.rpartition(".")[2]
    if key == RATE:
        return "lr"
    alike = key.startswith(("stage1.", "stage2.")) or last in ModelSection.model_fields
    return key if alike and key != EPOCHS else last


def told_value(key: str, value: Any) -> str:
    """A key with its value: ``lr 2e-5``, ``llm.model Qwen3-8B``."""
    if isinstance(value, float):
        text = re.sub(r"e([+-])0+", r"e\1", f"{value:g}")
    elif isinstance(value, bool) or value is None:
        text = {True: "on", False: "off", None: "none"}[value]
    elif isinstance(value, list | tuple):
        text = ", ".join(map(str, value))
    else:
        text = " ".join(str(value).split())
    if key.endswith(".model"):
        text = text.rstrip("/").rpartition("/")[2]
    return f"{told_key(key)} {text if len(text) <= 48 else f'{text[:47]}…'}"
