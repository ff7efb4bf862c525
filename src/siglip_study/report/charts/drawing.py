"""From Altair's charts to SVG that a page can hold: its own colours, both languages, no ids.

A drawing is made once, when the page is made. Colours are written as CSS variables, texts stand in
both languages of which the style shows one, and a mark says which projector it belongs to
(``data-p``) and what a pointer over it is told (``data-tip``).
"""

from __future__ import annotations

import functools
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping

from markupsafe import Markup

from siglip_study.report.charts.spec import Plot
from siglip_study.report.language import LANGUAGES, Language, Text

SVG = "http://www.w3.org/2000/svg"

INK, MUTED, LINE, PAPER = "var(--ink)", "var(--muted)", "var(--line)", "var(--bg)"
HEAT, CHOSEN, GOOD, BAD = "var(--heat-ink)", "var(--mark)", "var(--good)", "var(--bad)"

#: Sizes of letters in pixels of a drawing.
SMALL, NORMAL = 11, 12.5

_AXIS = {
    "labelColor": MUTED, "titleColor": MUTED, "gridColor": LINE, "domain": False, "ticks": False,
    "labelFontSize": SMALL, "titleFontSize": SMALL, "titleFontWeight": 400, "titlePadding": 8,
    "labelPadding": 6, "labelFlush": False,
}  # fmt: skip
_CONFIG = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "text": {"color": INK, "fontSize": SMALL},
    "rule": {"color": MUTED},
    "concat": {"spacing": 18},
}


def told(tip: str | Text, projector: str | None = None) -> str:
    """What a mark carries, for the channel ``description``: its projector, and a line on it."""
    words = tip if isinstance(tip, Text) else Text.same(tip)
    lines = {"tip": words.en}
    if words.en != words.ko:
        lines = {f"{own}-tip": words.within(own) for own in LANGUAGES}
    carried = {"p": projector, **lines}
    return json.dumps({key: told for key, told in carried.items() if told}, ensure_ascii=False)


def draw(
    chart: Plot, texts: Iterable[Text] = (), projectors: Mapping[str, str] | None = None
) -> Markup:
    """An Altair chart as SVG.

    Args:
        chart: the chart; its texts are in English.
        texts: those of its texts that have a Korean form.
        projectors: texts that name a projector, and which.

    Returns:
        SVG without ids, scripts, styles or addresses. Every text of data in it is escaped.
    """
    source = _vega(json.dumps({**chart.spec(), "config": _CONFIG}, sort_keys=True))
    root = ET.fromstring(source)
    korean = {text.en: text.ko for text in texts if text.en != text.ko}
    _clean(root, korean, projectors or {})
    box = root.get("viewBox", "")
    width = float(box.split()[2])
    root.attrib = {"viewBox": box, "class": "drawing", "style": f"max-width:{1.15 * width:.0f}px"}
    ET.register_namespace("", SVG)
    # Written by an XML library from elements, known attributes and texts: safe in a page as it is.
    return Markup(ET.tostring(root, encoding="unicode"))


@functools.lru_cache(maxsize=256)
def _vega(spec: str) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(spec))


# ---- What Vega writes, cut down to what is seen.

_KEPT = (
    "transform", "d", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "fill", "stroke",
    "stroke-width", "stroke-dasharray", "fill-opacity", "stroke-opacity", "opacity", "font-size",
    "font-weight", "text-anchor", "text", "data-p", "data-tip", "data-en-tip", "data-ko-tip",
)  # fmt: skip
#: Values that an element has without saying so.
_DEFAULT = {"opacity": "1", "stroke-width": "1", "stroke-opacity": "1", "fill-opacity": "1"}
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def _clean(node: ET.Element, korean: Mapping[str, str], projectors: Mapping[str, str]) -> None:
    for child in list(node):
        _clean(child, korean, projectors)
        place = list(node).index(child)
        name = child.tag.removeprefix(f"{{{SVG}}}")
        label = child.get("aria-label", "")
        mark = child.get("aria-roledescription") not in ("axis", "legend", "title")
        seen = child.get("fill", "none") != "none" or child.get("stroke") is not None
        gone = name in ("path", "rect") and (child.get("d") in (None, "") or not seen)
        child.attrib = {
            key: _NUMBER.sub(_short, value)
            for key, value in child.attrib.items()
            if key in _KEPT and _DEFAULT.get(key) != value
        }
        if mark and label.startswith("{"):
            for key, value in json.loads(label).items():
                child.set(f"data-{key}", value)
        if name == "rect" or gone or (name == "g" and not len(child)):
            node.remove(child)
        elif name == "g" and set(child.attrib) <= {"transform"} and _nowhere(child):
            node[place : place + 1] = list(child)
        elif name == "text":
            words = child.text or ""
            child.set("font-size", child.get("font-size", "").removesuffix("px"))
            if words in projectors:
                child.set("data-p", projectors[words])
            elif words in korean:
                child.set("class", "t")
                child.set("lang", "en")
                twin = ET.fromstring(ET.tostring(child))
                twin.set("lang", "ko")
                twin.text = korean[words]
                node.insert(place + 1, twin)


def _nowhere(node: ET.Element) -> bool:
    return node.get("transform", "translate(0,0)") == "translate(0,0)"


def _short(found: re.Match[str]) -> str:
    text = f"{float(found.group()):.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# ---- Outside the page there are no variables, and one language.

#: What the page's variables are on paper.
ON_PAPER = {
    "ink": "#1b1f27", "muted": "#5a6372", "line": "#e2e5ea", "bg": "#ffffff",
    "good": "#0a6c8f", "bad": "#a63c00", "mark": "#d55e00", "heat-ink": "#0a7bbf",
}  # fmt: skip


def standalone(svg: str, language: Language, colours: Mapping[str, str]) -> str:
    """A drawing as a file of its own, in one language and with the colours of paper.

    Args:
        svg: a drawing of :func:`draw`.
        language: the one that stays.
        colours: colours of further variables, by name without dashes.
    """
    known = {**ON_PAPER, **colours}
    root = ET.fromstring(re.sub(r"var\(--([\w-]+)\)", lambda found: known[found.group(1)], svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("lang") not in (None, language):
                parent.remove(child)
            for key in [key for key in child.attrib if key.startswith("data-") or key == "class"]:
                del child.attrib[key]
    width, height = (float(part) for part in root.get("viewBox", "").split()[2:])
    root.attrib = {
        "viewBox": f"0 0 {width:g} {height:g}",
        "width": f"{width:g}",
        "height": f"{height:g}",
        "font-family": "'Noto Sans', 'DejaVu Sans', 'Study Gothic', 'Noto Sans KR', sans-serif",
    }
    # A slide may be dark: paper is part of the picture.
    whole = {"width": "100%", "height": "100%", "fill": ON_PAPER["bg"]}
    root.insert(0, ET.Element(f"{{{SVG}}}rect", whole))
    ET.register_namespace("", SVG)
    return ET.tostring(root, encoding="unicode")
