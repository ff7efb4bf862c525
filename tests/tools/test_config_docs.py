"""The written documentation of the config is what the code says."""

import json
import re
import shutil
from pathlib import Path

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from tools.config_docs import documents, main

CONFIG = Path(__file__).parents[2] / "config"


def test_the_files_are_up_to_date() -> None:
    for path, expected in documents(CONFIG).items():
        found = path.read_text(encoding="utf-8")
        assert found == expected, f"{path}: run python -m tools.config_docs config"


def test_every_row_of_the_table_has_three_cells() -> None:
    text = (CONFIG / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) > 80
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


def test_the_schema_knows_every_top_key_and_forbids_others() -> None:
    schema = json.loads((CONFIG / "schema.json").read_text(encoding="utf-8"))
    assert set(schema["properties"]) == set(Config.model_fields)
    assert schema["additionalProperties"] is False


def test_a_changed_table_is_written_back_and_the_text_above_it_kept(tmp_path: Path) -> None:
    text = (CONFIG / "README.md").read_text(encoding="utf-8")
    stale = text.replace("| `output_dir` |", "| `old_key` |").replace("# The config", "# Mine")
    (tmp_path / "README.md").write_text(stale, encoding="utf-8")
    main(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text.replace(
        "# The config", "# Mine"
    )
    assert (tmp_path / "schema.json").read_bytes() == (CONFIG / "schema.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "schema.json"]


def test_a_page_without_a_table_is_named(tmp_path: Path) -> None:
    shutil.copy(CONFIG / "config.yaml", tmp_path / "README.md")
    with pytest.raises(StudyError, match=r"README\.md: found no table"):
        documents(tmp_path)
