"""Altair in few words: marks over rows, layers of them, panels beside each other.

These are Altair's classes below its ``Chart``, which copies all that it holds at every step. Rows
travel beside the marks under a name, and nothing is checked against Vega-Lite's schema while a page
is made: the copies and checks of a study would take minutes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt

#: Properties of a channel, as Altair's class of it takes them.
Channel: TypeAlias = dict[str, Any]

_TYPES = {"Q": "quantitative", "O": "ordinal", "N": "nominal"}


@dataclass(frozen=True)
class Plot:
    """Altair's specification of a chart, the rows that it draws by name, and room around it."""

    chart: Any
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    padding: Mapping[str, float] | None = None

    def spec(self, validate: bool = False) -> dict[str, Any]:
        """The chart in Vega-Lite, its data in it."""
        room = {"padding": dict(self.padding)} if self.padding else {}
        return {**self.chart.to_dict(validate=validate), **room, "datasets": dict(self.rows)}


def field(shorthand: str, **properties: Any) -> Channel:
    """A channel: ``name:Q`` and what goes with it."""
    name, _, kind = shorthand.partition(":")
    return {"field": name, **({"type": _TYPES[kind]} if kind else {}), **properties}


def plain(name: str) -> Channel:
    """A channel whose field holds the colour or the shape itself."""
    return {"field": name, "type": "nominal", "scale": None, "legend": None}


def value(constant: Any) -> Channel:
    """A channel that is the same for all."""
    return {"value": constant}


def marks(
    rows: Sequence[Mapping[str, Any]], mark: str, properties: Mapping[str, Any], **channels: Channel
) -> Plot:
    """One layer: a mark a row.

    ``rows`` are the data; a row's ``told`` is what the mark tells. ``mark`` is Vega-Lite's name of
    it, with ``properties`` the same for all rows, and ``channels`` of the encoding by name.
    """
    if any("told" in row for row in rows):
        channels["description"] = field("told:N")
    encoded = {}
    for name, own in channels.items():
        kind = name[0].upper() + name[1:]  # Altair's class of it
        constant = "value" in own
        encoded[name] = getattr(alt, f"{kind}Value" if constant else kind)(**own)
    known = [dict(row) for row in rows]
    name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    unit = alt.UnitSpec(
        mark=alt.MarkDef(type=mark, **properties),
        encoding=alt.Encoding(**encoded),
        data=alt.NamedData(name=name),
    )
    return Plot(unit, {name: known})


def layered(
    plots: Sequence[Plot], width: float, height: float, padding: Mapping[str, float] | None = None
) -> Plot:
    """Layers over each other; sizes in pixels."""
    layers = [plot.chart for plot in plots]
    return Plot(alt.LayerSpec(layer=layers, width=width, height=height), _rows(plots), padding)


def panels(plots: Sequence[Plot], columns: int) -> Plot:
    """Charts in rows of ``columns``, each with scales of its own."""
    own = [plot.chart for plot in plots]
    return Plot(alt.ConcatSpecGenericSpec(concat=own, columns=columns), _rows(plots))


def _rows(plots: Sequence[Plot]) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {name: rows for plot in plots for name, rows in plot.rows.items()}
