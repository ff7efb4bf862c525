"""Keeps the written documentation of the config equal to the code.

Run with: ``python -m tools.config_docs config``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path
from siglip_study.config.loading import inner_model
from siglip_study.config.study import Config

_TABLE_BEGINS = "| key | default | meaning |"


def schema_text() -> str:
    """The JSON Schema of the config, as ``config/schema.json`` holds it."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


def keys_table() -> str:
    """Markdown table of every key, its default and meaning, as ``config/README.md`` holds it."""
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            inner = inner_model(field.annotation)
            is_map = "dict[" in str(field.annotation)
            is_section = isinstance(inner, type) and issubclass(inner, BaseModel)
            if field.is_required():
                default = "required"
            elif isinstance(field.default, BaseModel):
                default = "below"
            else:
                default = f"`{json.dumps(field.default, ensure_ascii=False)}`"
            # A bar would end the table's cell, in code too.
            cells = (f"`{prefix}{name}`", default, field.description or "")
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
            if is_section:
                walk(inner, f"{prefix}{name}.{'<label>.' if is_map else ''}")

    walk(Config, "")
    return "\n".join(rows) + "\n"


def documents(folder: Path) -> dict[Path, str]:
    """The generated files of ``folder`` (``README.md``, ``schema.json``) and what they should hold.

    Text above the table of ``README.md`` is written by hand and kept; the table is the file's end.

    Raises:
        StudyError: ``README.md`` is missing or has no table to replace.
    """
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if _TABLE_BEGINS not in text:
        raise StudyError(f"{readme}: found no table; expected a line '{_TABLE_BEGINS}'.")
    above = text[: text.index(_TABLE_BEGINS)]
    return {readme: above + keys_table(), folder / "schema.json": schema_text()}


def main(folder: Path) -> None:
    """Rewrite the generated files of ``folder``."""
    for path, text in documents(folder).items():
        with atomic_path(path) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
