"""Tables as text: booktabs for a paper, ready for ``\\input``, and Markdown.

Figures have three significant digits.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

from siglip_study.report.words import p_value, rank_interval, significant, size, span, visible

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: "\\" + character for character in "&%$#_{}"},
}
_SYMBOLS = {"−": "$-$", "–": "--", "×": r"$\times$", "<": "$<$", ">": "$>$"}


def escape(text: str) -> str:
    """Text of the data as LaTeX prints it; control characters are dropped."""
    kept = re.sub(r"[\x00-\x1f\x7f]", " ", text)
    return "".join({**_SPECIAL, **_SYMBOLS}.get(character, character) for character in kept)


def booktabs(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A ``tabular``: the first column to the left, the others to the right."""
    lines = [" & ".join(map(escape, row)) + r" \\" for row in (columns, *rows)]
    head, *body = lines
    layout = "l" + "r" * (len(columns) - 1)
    return "\n".join(
        [
            "% Needs \\usepackage{booktabs}.",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def table_cell(value: Any) -> str:
    """A value of the data in a cell of :func:`markdown`: one line, no HTML and no link."""
    text = "–" if value is None else " ".join(visible(str(value)).split())
    return html.escape(text, quote=False).replace("|", "\\|").replace("](", "]\\(")


def code_span(text: str) -> str:
    """A name of the data as Markdown's code, whatever stands in it, in a cell too."""
    text = " ".join(visible(text).split()) or "–"  # two fences beside each other would open one
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}".replace("|", "\\|")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rules = ["---"] * len(columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, rules, *rows))


def ranking_tex(rows: Sequence[dict[str, Any]], can_rank: bool) -> str:
    """The ``ranking`` table in the columns that a paper shows."""
    return booktabs(
        (
            *("Projector", "Place", "Margin M", "Interval", "SigLIP", "METEOR gain"),
            *("Distinct", "Tokens", "Parameters"),
        ),
        [
            [
                row["projector"],
                rank_interval(row["rank_low"], row["rank_high"], row["ranked"], can_rank).en,
                significant(row["standardised_margin"]),
                span(row["standardised_margin_low"], row["standardised_margin_high"]),
                significant(row["siglip_cosine"]),
                significant(row["meteor_gain"]),
                significant(row["effective_captions"]),
                size(row["tokens_per_video"]),
                size(row["projector_parameters"]),
            ]
            for row in rows
        ],
    )


def pairs_tex(rows: Sequence[dict[str, Any]]) -> str:
    """The ``pairs`` table: every difference in M with its interval and Holm's p."""
    return booktabs(
        ("A", "B", "Difference in M", "Interval", "Holm p", "Better"),
        [
            [
                row["a"],
                row["b"],
                significant(row["difference"]),
                span(row["low"], row["high"]),
                p_value(row["p_holm"]),
                row["better"] or "–",
            ]
            for row in rows
        ],
    )
