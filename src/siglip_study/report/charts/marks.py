"""How a projector looks wherever it stands: a colour and a shape of its own, by config's order.

Colours are CSS variables of the page (``--p1`` … ``--p12``), so that one drawing serves the light
theme, the dark one and paper. No colour is grey, and no two of a shape share a colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Colours on white, in config's order; distinct also to readers who cannot tell red from green.
LIGHT = (
    "#0276b9", "#d25d07", "#14906a", "#b04d97", "#a67c00", "#4a2f9d",
    "#8c2f1b", "#3f97d3", "#5d7d0a", "#7a72e8", "#d6457e", "#00808a",
)  # fmt: skip
#: The same on near-black.
DARK = (
    "#58aef0", "#f58b45", "#3cc79b", "#e28bcb", "#e0b53a", "#a58cf5",
    "#e8856f", "#8fd0ff", "#a9cc4f", "#b9b4ff", "#ff86b0", "#45c9d2",
)  # fmt: skip

#: Outlines within −1 … 1, as Vega and the page draw them.
SHAPES = {
    "circle": "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z",
    "square": "M-.87,-.87H.87V.87H-.87Z",
    "triangle-up": "M0,-1.1L1.05,.8H-1.05Z",
    "diamond": "M0,-1.2L1.1,0L0,1.2L-1.1,0Z",
    "cross": "M-.37,-1.1H.37V-.37H1.1V.37H.37V1.1H-.37V.37H-1.1V-.37H-.37Z",
    "triangle-down": "M0,1.1L1.05,-.8H-1.05Z",
    "star": (
        "M0,-1.25L.34,-.42L1.19,-.39L.54,.18L.73,1.01L0,.55L-.73,1.01L-.54,.18L-1.19,-.39L-.34,-.42Z"
    ),
}


@dataclass(frozen=True)
class Mark:
    """The sign of one projector.

    Attributes:
        place: its place in the config, from 0.
        colour: CSS colour, a variable of the page.
        shape: outline within −1 … 1, an SVG path.
    """

    place: int
    colour: str
    shape: str


def projector_marks(projectors: Sequence[str]) -> dict[str, Mark]:
    """One sign a projector, the same in every figure, table and caption of the page.

    ``projectors`` are in the config's order, which no result changes.
    """
    outlines = tuple(SHAPES.values())
    return {
        label: Mark(i, f"var(--p{i % len(LIGHT) + 1})", outlines[i % len(outlines)])
        for i, label in enumerate(projectors)
    }


def colour_style() -> str:
    """The variables as a style sheet: dark as the reader or the page asks, light on paper."""
    light, dark = (
        " ".join(f"--p{i}: {colour};" for i, colour in enumerate(colours, start=1))
        for colours in (LIGHT, DARK)
    )
    return (
        f":root {{ {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ {dark} }} }}\n"
        f":root[data-theme=dark] {{ {dark} }}\n"
        f"@media print {{ :root, :root[data-theme] {{ {light} }} }}\n"
    )
