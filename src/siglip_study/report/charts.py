"""Charts as Vega-Lite specs: marks, scales and data; colours of the theme come from the page."""

from __future__ import annotations

import functools
from typing import Any

#: Okabe and Ito's colours in an order that works on white and on near-black, then four more.
PALETTE = (
    "#0a7bbf",
    "#d55e00",
    "#009e73",
    "#b0599b",
    "#e69f00",
    "#56b4e9",
    "#8a7a00",
    "#7a6fd0",
    "#808890",
    "#a65628",
    "#4fb3a9",
    "#d67ba0",
)


def projector_colours(projectors: list[str]) -> dict[str, str]:
    """One colour a projector, the same in every chart and table of the page."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(projectors)}


def spec(chart: Any) -> dict[str, Any]:
    """A chart as a plain spec without Altair's theme and schema address."""
    told = chart.to_dict()
    told.pop("$schema", None)
    told.pop("config", None)
    return dict(told)


def _colour(alt: Any, projectors: list[str], **keywords: Any) -> Any:
    colours = projector_colours(projectors)
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("projector:N", scale=scale, **keywords)


def ranking_chart(
    rows: list[dict[str, Any]],
    projectors: list[str],
    references: float | None,
    retrieval: float | None,
    alpha: float,
) -> dict[str, Any]:
    """Grounding D with its interval at 1 − alpha, a row a projector, and marks to read it by."""
    import altair as alt

    data = [
        {
            "projector": row["projector"],
            "D": row["grounding_margin"],
            "low": row["grounding_margin_low"],
            "high": row["grounding_margin_high"],
            "gate": row["gate"],
        }
        for row in rows
    ]
    marks = [
        {"label": label, "D": value}
        for label, value in (
            ("chance", 0.0),
            ("retrieval", retrieval),
            ("human", references),
        )
        if value is not None
    ]
    shapes = {
        "grounded": "circle",
        "undetermined": "diamond",
        "category_only": "square",
        "ungrounded": "triangle-down",
        "collapsed": "cross",
    }
    present = [gate for gate in shapes if any(row["gate"] == gate for row in rows)]
    y = alt.Y("projector:N", sort=[row["projector"] for row in rows], title=None)
    base = alt.Chart(alt.Data(values=data)).encode(y=y)
    colour = _colour(alt, projectors, legend=None)
    # With one group of clips there is no interval to draw.
    bounded = alt.Chart(alt.Data(values=[d for d in data if d["low"] is not None])).encode(y=y)
    lines = bounded.mark_rule(strokeWidth=3, opacity=0.75).encode(
        x=alt.X(
            "low:Q",
            title=f"grounding D, {100 * (1 - alpha):g} % interval",
            axis=alt.Axis(tickCount=8),
        ),
        x2="high:Q",
        color=colour,
    )
    points = base.mark_point(filled=True, size=110, opacity=1).encode(
        x="D:Q",
        color=colour,
        shape=alt.Shape(
            "gate:N",
            scale=alt.Scale(domain=present, range=[shapes[gate] for gate in present]),
            legend=alt.Legend(title=None, orient="bottom"),
        ),
        tooltip=["projector:N", "D:Q", "low:Q", "high:Q", "gate:N"],
    )
    bars = alt.Chart(alt.Data(values=marks)).encode(x="D:Q")
    rules = bars.mark_rule(strokeDash=[4, 3], opacity=0.8)
    names = bars.mark_text(dy=-8, fontSize=11, align="center", baseline="bottom").encode(
        y=alt.value(0), text="label:N"
    )
    chart = alt.layer(rules, lines, points, names).properties(
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        width="container",
        height=34 * max(1, len(rows)),
        padding={"top": 14, "left": 4, "right": 12, "bottom": 4},
    )
    return spec(chart)


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
    import altair as alt

    shapes = {
        "report run": "circle",
        "tuning run": "square",
        "collapsed": "cross",
        "control": "diamond",
        "human references": "triangle-up",
        "retrieval baseline": "triangle-down",
    }
    known = [c for c in cells if c.get(metric) is not None and c["effective_captions"] is not None]
    data = alt.Data(values=[{**c, "score": c[metric]} for c in known])
    present = [state for state in shapes if any(c["state"] == state for c in known)]
    base = alt.Chart(data).encode(
        x=alt.X(
            "effective_captions:Q",
            title="effective captions (share of clips)",
            scale=alt.Scale(domain=[0, 1]),
        ),
        y=alt.Y("score:Q", title=title, scale=alt.Scale(zero=False, nice=True)),
    )
    points = base.mark_point(size=85, filled=True, opacity=0.85).encode(
        color=alt.condition(
            "datum.label == ''",
            _colour(alt, projectors, legend=alt.Legend(title=None, orient="bottom", columns=2)),
            alt.value("#808890"),
        ),
        shape=alt.Shape(
            "state:N",
            scale=alt.Scale(domain=present, range=[shapes[s] for s in present]),
            legend=alt.Legend(title=None, orient="bottom", columns=2),
        ),
        tooltip=["name:N", "state:N", "effective_captions:Q", "score:Q"],
    )
    # What is neither a projector's tuning nor its report run is named where it stands, in grey.
    named = alt.Chart(alt.Data(values=_names(known, metric))).encode(
        x="effective_captions:Q", y="score:Q", text="label:N"
    )
    left = named.transform_filter("datum.effective_captions > 0.5")
    right = named.transform_filter("datum.effective_captions <= 0.5")
    names = (
        left.mark_text(align="right", dx=-9, fontSize=11),
        right.mark_text(align="left", dx=5, dy=-11, fontSize=11),
    )
    return spec(alt.layer(points, *names).properties(width="container", height=300))


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
    import altair as alt

    base = alt.Chart(alt.NamedData(name="rows")).encode(
        x=alt.X("x:Q", title="optimizer step", scale=alt.Scale(domainMin=0)),
        y=alt.Y(
            "y:Q",
            title=title,
            scale=alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=False),
        ),
        color=alt.Color("colour:N", scale=None),
        detail="series:N",
        tooltip=["series:N", "kind:N", "x:Q", "y:Q"],
    )
    train = base.transform_filter("datum.kind == 'train'").mark_line(strokeWidth=1.6)
    other = base.transform_filter("datum.kind != 'train'")
    line = other.mark_line(strokeWidth=1.4, strokeDash=[5, 3])
    points = other.mark_point(filled=True, size=46, opacity=1)
    layers = (line, points) if share else (train, line, points)
    return spec(alt.layer(*layers).properties(width="container", height=230))


@functools.cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script that sets ``window.vegaEmbed``."""
    import altair
    import vl_convert

    # The bundle must speak the dialect that Altair wrote.
    version = ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    snippet = "window.vegaEmbed = vegaEmbed;"
    known = vl_convert.get_vegalite_versions()
    return str(
        vl_convert.javascript_bundle(snippet, vl_version=version if version in known else None)
    )
