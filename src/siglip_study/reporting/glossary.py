"""What every figure of the page means, in one sentence each."""

from __future__ import annotations

from typing import Any

from siglip_study.reporting.results import Cell

#: Figures of the page that are no metric of captions.
TERMS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "shuffled_gap",
        "Loss of the reference caption with another clip's video minus with its own: the most "
        "sensitive sign that the video is used.",
        "higher is better",
        "−∞ to ∞",
        "nats a token",
    ),
    (
        "reversed_gap",
        "The same with the own frames in reverse: is the order of frames used?",
        "higher is better",
        "−∞ to ∞",
        "nats a token",
    ),
    (
        "κ (kappa)",
        "(accuracy − majority) / (1 − majority) of facts parsed from captions; demo only.",
        "higher is better",
        "−∞ to 1",
        "1",
    ),
)


def glossary_rows(cells: list[Cell]) -> list[dict[str, Any]]:
    """Every metric that any cell carries, with its definition, range, direction and tokenizer."""
    from siglip_study.metrics.registry import METRICS

    infos: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for cell in cells:
        for name, info in cell.metrics["metrics"].items():
            infos.setdefault(name, info)
        for name, why in (cell.metrics.get("not_computed") or {}).items():
            missing.setdefault(name, why)
    order = {name: place for place, name in enumerate(METRICS)}
    rows = []
    for name in sorted({*infos, *missing}, key=lambda n: (order.get(n, len(order)), n)):
        # A metric that was not computed still has a range and a direction.
        known = METRICS[name].as_json(None) if name in METRICS else {}
        info = infos.get(name, known)
        rows.append(
            {
                "name": name,
                "definition": METRICS[name].description if name in METRICS else "",
                "direction": direction(info.get("higher_is_better")),
                "range": f"{_bound(info.get('min'), '−∞')} to {_bound(info.get('max'), '∞')}",
                "unit": info.get("unit") or "–",
                "tokenizer": info.get("tokenizer") or "–",
                "version": info.get("version") or "–",
                "not_computed": missing.get(name) if name not in infos else None,
            }
        )
    for name, definition, toward, bounds, unit in TERMS:
        rows.append(
            {
                "name": name,
                "definition": definition,
                "direction": toward,
                "range": bounds,
                "unit": unit,
                "tokenizer": "–",
                "version": "–",
                "not_computed": None,
            }
        )
    return rows


def direction(higher_is_better: bool | None) -> str:
    """The direction of a metric in words."""
    if higher_is_better is None:
        return "neither"
    return "higher is better" if higher_is_better else "lower is better"


def _bound(value: float | None, unbounded: str) -> str:
    return unbounded if value is None else f"{value:g}".replace("-", "−")
