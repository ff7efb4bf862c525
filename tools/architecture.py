"""The floors of the library: a table and a picture for docs/architecture.md.

Run with:

    python -m tools.architecture docs

A room imports only from rooms that stand before it in ``ROOMS``. The picture shows each room as
high as its longest chain of imports, and only those arrows that no longer way already implies.
"""

from __future__ import annotations

import argparse
import ast
from html import escape
from pathlib import Path

from siglip_study.base.io import atomic_path
from tools.pages import write_tables
from tools.reach import PACKAGE, SOURCE

#: Room → what a newcomer finds there; from the ground up.
ROOMS = {
    "base": "errors, files that appear whole, what every job shares, seeds",
    "config": "every key, its type and default; the only place that knows them",
    "study": "runs and cells, the grid, every path, what runs again, progress",
    "data": "dataset layouts → manifest; decoding, frames uniform in time",
    "demo": "the procedural world: scenes, clips, captions, their facts",
    "projectors": "the object of study: one file a projector, found by exact name",
    "models": "finding, fetching and loading models; prompt, NF4, fast layers; devices",
    "features": "frozen towers and scorer; the feature store",
    "metrics": "one decorated function a metric",
    "runs": "one run on a device: model, clips, checkpoint, losses",
    "captioning": "captions of a cell: decoding in batches, cache, losses under other videos",
    "training": "two stages: the loop, the step, memory, ranks, resume points, diagnosis",
    "scoring": "captions and embeddings → one table of scores",
    "ranking": "scorer check, gate, selection, pair tests, rank intervals; data, no wording",
    "report": "tables, charts, sentences, one HTML file",
    "planning": "what a study will cost and whether it can start; power",
}
_BOX, _GAP, _STOREY, _HIGH = 128, 22, 96, 40


def arrows() -> dict[tuple[str, str], list[str]]:
    """(room, room that it imports from) → the files whose imports those are."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        room = path.relative_to(SOURCE / PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            parts = node.module.split(".")
            if parts[0] != PACKAGE:
                continue
            for other in parts[1:2] or [alias.name for alias in node.names]:
                if other != room and other in ROOMS:
                    found.setdefault((room, other), []).append(str(path.relative_to(SOURCE)))
    return found


def storeys(pairs: set[tuple[str, str]]) -> dict[str, int]:
    """How high each room stands: 0 for one that imports from none."""
    height: dict[str, int] = {}
    for room in ROOMS:  # below a room stands all that it imports
        height[room] = 1 + max((height[b] for a, b in pairs if a == room), default=-1)
    return height


def shown_arrows(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Arrows that no other way through the rooms implies (transitive reduction)."""

    def leads(start: str, end: str, without: tuple[str, str]) -> bool:
        ways = [b for a, b in pairs if a == start and (a, b) != without]
        return end in ways or any(leads(way, end, without) for way in ways)

    return sorted(pair for pair in pairs if not leads(*pair, without=pair))


def table() -> str:
    """The rooms as a Markdown table, from the ground up."""
    rows = [f"| `{room}/` | {holds} |" for room, holds in ROOMS.items()]
    return "\n".join(["| room | holds |", "| --- | --- |", *rows])


def picture() -> str:
    """The floors as SVG: upper rooms import from lower ones."""
    pairs = set(arrows())
    height = storeys(pairs)
    rows = [[r for r in ROOMS if height[r] == level] for level in range(max(height.values()) + 1)]
    margin = _BOX  # for arrows that go around
    wide = max(len(row) for row in rows) * (_BOX + _GAP) + _GAP + 2 * margin
    high = len(rows) * _STOREY
    place: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        left = (wide - len(row) * (_BOX + _GAP) + _GAP) / 2
        for i, room in enumerate(row):
            place[room] = (left + i * (_BOX + _GAP), high - (level + 1) * _STOREY + 28)
    lines = []
    for room, other in shown_arrows(pairs):
        (x, y), (to_x, to_y) = place[room], place[other]
        a, b = x + _BOX / 2, to_x + _BOX / 2
        start, end = y + _HIGH, to_y - 6
        # An arrow past other storeys goes around their boxes.
        aside = _BOX * 1.1 * (1 if b >= wide / 2 else -1) if end - start > _STOREY else 0
        turn = min(end - start, 1.5 * _STOREY) / 2
        b += aside / 4
        lines.append(
            f'<path d="M{a + aside / 4:g},{start:g} C{a + aside:g},{start + turn:g} '
            f'{b + aside:g},{end - turn:g} {b:g},{end:g}"/>'
        )
    boxes = [
        f'<g><title>{escape(ROOMS[room])}</title><rect x="{x:g}" y="{y:g}" width="{_BOX}" '
        f'height="{_HIGH}" rx="6"/><text x="{x + _BOX / 2:g}" y="{y + 25:g}">{room}</text></g>'
        for room, (x, y) in place.items()
    ]
    style = (
        "text{font:15px sans-serif;text-anchor:middle;fill:#1b1f24}rect{fill:#eef2f7;"
        "stroke:#57606a}path{fill:none;stroke:#57606a;marker-end:url(#tip)}"
        "marker path{fill:#57606a;marker-end:none}@media(prefers-color-scheme:dark)"
        "{text{fill:#e6edf3}rect{fill:#21262d;stroke:#8b949e}"
        "path{stroke:#8b949e}marker path{fill:#8b949e}}"
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img" '
            'aria-label="The rooms of the library; each imports from rooms below it">',
            f"<style>{style}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path d="M0,0 8,4 0,8z"/></marker></defs>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def main() -> None:
    """Write the table into ``architecture.md`` of a folder, and the picture beside it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_tables(folder / "architecture.md", {"floors": table()})
    with atomic_path(folder / "architecture.svg") as partial:
        partial.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
