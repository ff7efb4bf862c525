"""The rehearsal as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from siglip_study.planning.rows import Cost, Row

_HEAD = ("part", "shape", "unit", "units", "measured s", "estimated s", "GPU GiB", "hours")


def rows_table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table: a head, a rule, a line a row, the sum."""
    body = [_cells(row) for row in rows]
    total = sum(row.hours or 0.0 for row in rows)
    body.append(("all", "", "", "", "", "", "", _hours(total)))
    widths = [max(len(line[i]) for line in [_HEAD, *body]) for i in range(len(_HEAD))]
    lines = [_line(_HEAD, widths), "  ".join("-" * width for width in widths)]
    return lines + [_line(line, widths) for line in body]


def gigabytes(amount: float) -> str:
    """Bytes in GB, three digits."""
    return f"{amount / 1e9:.3g} GB"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.part,
        row.shape,
        row.unit,
        f"{row.units}",
        _seconds(row.measured),
        _seconds(row.estimated),
        _gib(row.cost),
        "-" if row.hours is None else _hours(row.hours),
    )


def _seconds(cost: Cost | None) -> str:
    if cost is None or cost.seconds is None:
        return "no fit" if cost is not None and cost.problem else "-"
    return f"{cost.seconds:.3g}"


def _gib(cost: Cost) -> str:
    if cost.gib is None:
        return "-"
    return f"{cost.gib:.2g}" if cost.gib < 10 else f"{cost.gib:.0f}"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.1 else f"{hours:.4f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*left, *right]).rstrip()
