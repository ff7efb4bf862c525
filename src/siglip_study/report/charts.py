"""Charts as Vega-Lite specs: marks, scales and data; colours of the theme come from the page."""

from __future__ import annotations

import functools
from typing import Any

import altair as alt
import vl_convert

#: Okabe and Ito's colours in an order that works on white and on near-black, then four more.
PALETTE = (
    "#0a7bbf", "#d55e00", "#009e73", "#b0599b", "#e69f00", "#56b4e9",
    "#8a7a00", "#7a6fd0", "#808890", "#a65628", "#4fb3a9", "#d67ba0",
)  # fmt: skip
_GATES = {
    "grounded": "circle",
    "undetermined": "diamond",
    "category_only": "square",
    "unstable": "square",
    "ungrounded": "triangle-down",
    "collapsed": "cross",
}
_STATES = {
    "report run": "circle",
    "tuning run": "square",
    "collapsed": "cross",
    "control": "diamond",
    "human references": "triangle-up",
    "retrieval baseline": "triangle-down",
}


def projector_colours(projectors: list[str]) -> dict[str, str]:
    """One colour a projector, the same in every chart and table of the page."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(projectors)}


def _data(rows: list[dict[str, Any]]) -> Any:
    return alt.Chart(alt.Data(values=rows))


def _spec(*layers: Any, **properties: Any) -> dict[str, Any]:
    """Layers as a plain spec without Altair's theme and schema address."""
    found = alt.layer(*layers).properties(width="container", **properties).to_dict()
    return {key: value for key, value in found.items() if key not in ("$schema", "config")}


def _colour(projectors: list[str], **keywords: Any) -> Any:
    colours = projector_colours(projectors)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("projector:N", scale=scale, **keywords)


def _shape(field: str, shapes: dict[str, str], rows: list[dict[str, Any]], **legend: Any) -> Any:
    """Shapes of the kinds that are there, with a legend below."""
    present = [kind for kind in shapes if any(row[field] == kind for row in rows)]
    return alt.Shape(
        f"{field}:N",
        scale=alt.Scale(domain=present, range=[shapes[kind] for kind in present]),
        legend=alt.Legend(title=None, orient="bottom", **legend),
    )


def _y(title: str, share: bool, **scale: Any) -> Any:
    """The vertical axis, from 0 to 1 for a share."""
    return alt.Y(
        "y:Q",
        title=title,
        scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False, **scale),
    )


def ranking_chart(
    rows: list[dict[str, Any]], marks: dict[str, float | None], alpha: float
) -> dict[str, Any]:
    """M with its interval at 1 − alpha, a row of the ``ranking`` table a projector, and marks
    (label → M) to read it by."""
    columns = {"M": "standardised_margin", "low": "standardised_margin_low"}
    columns |= {"high": "standardised_margin_high", "gate": "gate"}
    data = [
        {"projector": row["projector"], **{key: row[name] for key, name in columns.items()}}
        for row in rows
    ]
    projectors = [row["projector"] for row in rows]
    y = alt.Y("projector:N", sort=projectors, title=None)
    colour = _colour(projectors, legend=None)
    # With one group of clips there is no interval to draw.
    bounded = _data([d for d in data if d["low"] is not None]).encode(y=y)
    lines = bounded.mark_rule(strokeWidth=3, opacity=0.75).encode(
        x=alt.X(
            "low:Q",
            title=f"standardised margin M, {100 * (1 - alpha):g} % interval",
            axis=alt.Axis(tickCount=8),
        ),
        x2="high:Q",
        color=colour,
    )
    points = (
        _data(data)
        .encode(y=y)
        .mark_point(filled=True, size=110, opacity=1)
        .encode(
            x="M:Q",
            color=colour,
            shape=_shape("gate", _GATES, rows),
            tooltip=["projector:N", "M:Q", "low:Q", "high:Q", "gate:N"],
        )
    )
    bars = _data(
        [{"label": label, "M": value} for label, value in marks.items() if value is not None]
    ).encode(x="M:Q")
    rules = bars.mark_rule(strokeDash=[4, 3], opacity=0.8)
    names = bars.mark_text(dy=-8, fontSize=11, align="center", baseline="bottom").encode(
        y=alt.value(0), text="label:N"
    )
    return _spec(
        rules,
        lines,
        points,
        names,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        height=34 * max(1, len(rows)),
        padding={"top": 14, "left": 4, "right": 12, "bottom": 4},
    )


def scatter_chart(
    cells: list[dict[str, Any]], projectors: list[str], metric: str, title: str
) -> dict[str, Any]:
    """Score against diversity over all cells; collapsed ones are crosses, controls are diamonds.

    Args:
        cells: rows with ``projector``, ``state``, ``name``, ``effective_captions`` and ``metric``.
        projectors: every projector, in the order that fixes the colours.
        metric: key of the score on the vertical axis.
        title: title of that axis.
    """
    known = [c for c in cells if c.get(metric) is not None and c["effective_captions"] is not None]
    columns = alt.Legend(title=None, orient="bottom", columns=2)
    base = _data([{**c, "score": c[metric]} for c in known]).encode(
        x=alt.X(
            "effective_captions:Q",
            title="effective captions (share of clips)",
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=alt.Y("score:Q", title=title, scale=alt.Scale(zero=False, nice=True)),
    )
    points = base.mark_point(size=85, filled=True, opacity=0.85).encode(
        color=alt.condition(
            "datum.label == ''", _colour(projectors, legend=columns), alt.value("#808890")
        ),
        shape=_shape("state", _STATES, known, columns=2),
        tooltip=["name:N", "state:N", "effective_captions:Q", "score:Q"],
    )
    # What is neither a projector's tuning nor its report run is named where it stands, in grey.
    named = _data(_names(known, metric)).encode(
        x="effective_captions:Q", y="score:Q", text="label:N"
    )
    left = named.transform_filter("datum.effective_captions > 0.5")
    right = named.transform_filter("datum.effective_captions <= 0.5")
    return _spec(
        points,
        left.mark_text(align="right", dx=-9, fontSize=11),
        right.mark_text(align="left", dx=5, dy=-11, fontSize=11),
        height=300,
    )


def _names(cells: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Names of the named points; points whose names would cover each other share one text."""
    scores = [c[metric] for c in cells]
    line = (max(scores) - min(scores)) / 20 if scores else 0.0
    places: list[dict[str, Any]] = []
    for c in cells:
        if c["label"]:
            x, y = c["effective_captions"], c[metric]
            near = (
                place
                for place in places
                if abs(place["effective_captions"] - x) <= 0.1 and abs(place["score"] - y) <= line
            )
            seen = next(near, None)
            if seen is None:
                places.append({"effective_captions": x, "score": y, "label": c["label"]})
            elif c["label"] not in seen["label"].split(", "):
                seen["label"] += f", {c['label']}"
    return places


def curve_chart(title: str, share: bool = False) -> dict[str, Any]:
    """Lines over optimizer steps; the page fills the data named ``rows`` as cells are chosen.

    With ``share`` the vertical axis runs from 0 to 1, and there is no training curve.

    A row has ``series``, ``colour`` (a hex code), ``kind`` (``train``, ``validation``), ``x`` and
    ``y``.
    """
    base = alt.Chart(alt.NamedData(name="rows")).encode(
        x=alt.X("x:Q", title="optimizer step", scale=alt.Scale(domainMin=0)),
        y=_y(title, share),
        color=alt.Color("colour:N", scale=None),
        detail="series:N",
        tooltip=["series:N", "kind:N", "x:Q", "y:Q"],
    )
    train = base.transform_filter("datum.kind == 'train'").mark_line(strokeWidth=1.6)
    other = base.transform_filter("datum.kind != 'train'")
    line = other.mark_line(strokeWidth=1.4, strokeDash=[5, 3])
    points = other.mark_point(filled=True, size=46, opacity=1)
    return _spec(*((line, points) if share else (train, line, points)), height=230)


def diagnosis_chart(
    rows: list[dict[str, Any]], column: str, title: str, share: bool
) -> dict[str, Any]:
    """One figure over epochs, a line a cell; controls are dashed."""
    keep = ("cell", "label", "colour", "control", "x", "when")
    data = [
        {**{key: row[key] for key in keep}, "y": row[column]}
        for row in rows
        if row.get(column) is not None
    ]
    base = _data(data).encode(
        x=alt.X(
            "x:Q",
            title="epoch of both stages; 0: before training",
            axis=alt.Axis(tickMinStep=1, format="d"),
        ),
        y=_y(title, share, nice=True),
        color=alt.Color("colour:N", scale=None),
        detail="cell:N",
        tooltip=["label:N", "when:N", alt.Tooltip("y:Q", title=title)],
    )
    solid = base.transform_filter("!datum.control").mark_line(strokeWidth=1.6)
    dashed = base.transform_filter("datum.control").mark_line(strokeWidth=1.6, strokeDash=[5, 3])
    return _spec(solid, dashed, base.mark_point(filled=True, size=34, opacity=1), height=190)


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``."""
    # The bundle must speak the dialect that Altair wrote.
    version = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    snippet = "window.vegaEmbed = vegaEmbed;"
    known = vl_convert.get_vegalite_versions()
    return str(
        vl_convert.javascript_bundle(snippet, vl_version=version if version in known else None)
    )
