"""The same file under several ids: not trained on and reported, nor counted twice."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from siglip_study.data.layouts import Rejection

#: A file in two splits stays in the later one: clips that are reported are dearer.
_DEARER = ("train", "selection", "report", "held_out")


def settle_copies(rows: list[dict[str, Any]], rejected: list[Rejection]) -> list[dict[str, Any]]:
    """Rows of the manifest without files that another split holds, copies being of one group.

    Files are the same if their SHA-256 is. A copy in another split is rejected there, as it would
    be trained or tuned on and then reported. Copies within a split stay, each with its own caption,
    as clips of one source video: their groups are joined under the first name.

    Args:
        rows: with id, split, group and sha256; left as they are.
        rejected: gains a row for each copy that is left out.
    """
    by_file: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_file[row["sha256"]].append(row)
    dropped: set[str] = set()
    joined: dict[str, str] = {}

    def name(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for same in by_file.values():
        home = max((row["split"] for row in same), key=_DEARER.index)
        kept = [row for row in same if row["split"] == home]
        for row in same:
            if row["split"] != home:
                reason = f"copy: the same file as '{kept[0]['id']}' in the split {home}"
                rejected.append(Rejection(row["id"], row["path"], reason))
                dropped.add(row["id"])
        first, *others = sorted({name(row["group"]) for row in kept})
        joined.update(dict.fromkeys(others, first))
    return [{**row, "group": name(row["group"])} for row in rows if row["id"] not in dropped]
