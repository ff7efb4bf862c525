"""How to make a study again, and how to cite it: blocks that a reader copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def commands(config: Mapping[str, Any], command: str | None, commit: str | None) -> str:
    """Shell commands from nothing to this report, a line each.

    ``config`` says where the code is cloned from (``report.repository``); ``command`` makes the
    study from ``config.yaml``.
    """
    repository = (config.get("report") or {}).get("repository") or "<repository>"
    lines = [f"git clone {repository} siglip-study && cd siglip-study"]
    if commit and commit != "unknown":
        # As ``git describe`` marks a tree that held more than its commit.
        own, _, changed = commit.partition("+")
        lines.append(f"git checkout {own}" + ("  # and what was changed since" if changed else ""))
    lines += [
        "python3.11 -m venv .venv && . .venv/bin/activate",
        "pip install -r requirements.txt && pip install --no-deps -e .",
        "# save config.yaml from this page here",
        command or "snakemake --cores 1 --configfile config.yaml",
    ]
    return "\n".join(lines)


def citation(version: str | None, commit: str | None, date: str | None) -> str:
    """BibTeX of the software at ``commit``, of the year of ``date`` (YYYY-MM-DD)."""
    fields = {
        "title": "{siglip-study}: which projector should caption your videos, and how sure "
        "can you be?",
        "author": "{siglip-study contributors}",
        "version": version or "",
        "year": (date or "")[:4],
        "note": f"commit {commit}" if commit else "",
    }
    told = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items() if value)
    return f"@software{{siglip_study,\n{told}\n}}"
