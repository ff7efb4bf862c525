"""A figure of the report: drawn wide and narrow, told in words, and as a table one click away."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from markupsafe import Markup

from siglip_study.report.charts.drawing import INK, NORMAL, draw, told
from siglip_study.report.charts.marks import Mark
from siglip_study.report.charts.spec import Channel, Plot, field, marks, plain, value
from siglip_study.report.language import Text
from siglip_study.report.wording.labels import label as say
from siglip_study.report.words import significant, span

#: Widths of drawings in pixels: half a desktop page, and a phone.
WIDE, NARROW = 620, 330

#: A figure's own numbers: text in a table's cell is a name or a word.
Value: TypeAlias = str | Text | float | int | None


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: of its file and its anchor, in lower case with hyphens.
        title: what it shows, in a few words.
        alt: what it says, in sentences with its main figures.
        wide: SVG for a page, both languages in it.
        narrow: SVG for a phone; ``wide`` itself where that is small enough.
        columns: headings of its data.
        rows: its data; the first column names a row.
    """

    name: str
    title: Text
    alt: Text
    wide: Markup
    narrow: Markup
    columns: tuple[Text, ...]
    rows: tuple[tuple[Value, ...], ...]


class Canvas:
    """What the drawings of one study share: its projectors' signs, and their order."""

    def __init__(self, ranked: Sequence[str], marks: Mapping[str, Mark]) -> None:
        #: Labels in the order of the answer.
        self.ranked = tuple(ranked)
        self.marks = marks

    def draw(self, chart: Plot, texts: Sequence[Text] = ()) -> Markup:
        """A chart as SVG; texts that name a projector carry its label."""
        names = {
            shown(label, limit): label for label in self.marks for limit in (LONG, SHORT, SHORT + 5)
        }
        return draw(chart, texts, names)

    def figure(
        self,
        name: str,
        draw: Callable[[int], Markup],
        alt: Text,
        columns: Sequence[str | Text],
        rows: Iterable[tuple[Value, ...]],
        title: str = "title",
    ) -> Figure:
        """A figure that ``draw`` draws at each width.

        A column that is no text, and ``title``, are keys of labels.
        """
        heads = tuple(say(f"charts.{c}") if isinstance(c, str) else c for c in columns)
        told = say(f"charts.{name}.{title}")
        return Figure(name, told, alt, draw(WIDE), draw(NARROW), heads, tuple(rows))

    def own(self, label: Any) -> str | None:
        """``label`` where it is a projector that has a sign."""
        return label if isinstance(label, str) and label in self.marks else None

    def look(self, label: str) -> dict[str, str]:
        """Colour and shape of a projector's mark, for the channels of :func:`signed`."""
        mark = self.marks[label]
        return {"projector": label, "colour": mark.colour, "shape": mark.shape}

    def heading(self, words: str, label: str | None = None, above: int = 14) -> list[Plot]:
        """A panel's title ``above`` it by so many pixels, with the sign of projector ``label``."""
        place = {"x": value(14 if label else 0), "y": value(-above)}
        bold = {
            "align": "left", "baseline": "middle", "fontWeight": 600, "fontSize": NORMAL,
            "text": words,
        }  # fmt: skip
        layers = [marks([{}], "text", bold, **place)]
        if label is not None:
            own = [{**self.look(label), "told": told("", label)}]
            layers.append(signs(own, 50, x=value(5), y=place["y"]))
        return layers


def signed() -> dict[str, Channel]:
    """Channels of a mark whose rows have the :meth:`Canvas.look` of a projector."""
    return {"color": plain("colour"), "shape": plain("shape")}


def signs(rows: Sequence[Mapping[str, Any]], size: float, **channels: Channel) -> Plot:
    """Signs of projectors; rows have the :meth:`Canvas.look` of theirs."""
    sign = {"filled": True, "opacity": 1, "size": size}
    return marks(rows, "point", sign, **channels, **signed())


def quantity(name: str, domain: Sequence[float], title: str | None = None, **axis: Any) -> Channel:
    """A channel of a quantity over ``domain``; ``axis`` has what else Vega-Lite says of one."""
    scale = {"domain": list(domain), "nice": False}
    return field(f"{name}:Q", scale=scale, axis={"title": title, **axis})


def margin_of(row: Mapping[str, Any], at: str) -> dict[str, Any]:
    """M of a row of the ``ranking`` table under the key ``at``, with its bounds."""
    ends = {end: row[f"standardised_margin_{end}"] for end in ("low", "high")}
    return {at: row["standardised_margin"], **ends}


def bounds_at(percent: str) -> list[Text]:
    """Headings of an interval's ends."""
    return [say(f"charts.{end}", percent=percent) for end in ("low", "high")]


#: Letters of a name that a wide drawing, a narrow one and a panel have room for.
LONG, SHORT, HEADING = 24, 15, 20


def shown(name: str, limit: int = LONG) -> str:
    """A name as a drawing has room for it, without what no XML can hold."""
    clean = "".join(c if c.isprintable() else " " for c in name)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def figure_value(found: Value) -> str | Text:
    """A value of a figure's data, for its table."""
    return found if isinstance(found, str | Text) else significant(found)


def with_bounds(value: float | None, low: float | None, high: float | None) -> str:
    """``4.42 [4.26, 4.58]``, or the value alone."""
    return f"{significant(value)} {span(low, high)}".rstrip()


def extent(values: Sequence[float | None], zero: bool = False) -> list[float]:
    """Lowest and highest of the known values with a little room, so that every panel shares it."""
    known = [v for v in values if v is not None and math.isfinite(v)] + ([0.0] if zero else [])
    if not known:
        return [0.0, 1.0]
    low, high = min(known), max(known)
    room = 0.04 * (high - low) or 0.5
    return [low - room, high + room]


def row_axis(names: Sequence[str], padding: int = 8) -> Channel:
    """Rows by the field ``row`` (0, 1, …), with their names at the left."""
    texts = json.dumps(list(names), ensure_ascii=True)
    # Room for a font that is wider than the one Vega measures with.
    room = padding + 7.4 * max((len(name) for name in names), default=0)
    axis = {
        "labelExpr": f"{texts}[datum.value]", "labelPadding": padding, "labelLimit": 0,
        "minExtent": room,
        "labelFontSize": NORMAL, "labelColor": INK, "title": None, "grid": False,
    }  # fmt: skip
    return field("row:O", axis=axis, scale={"domain": list(range(len(names)))})
