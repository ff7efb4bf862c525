"""The guide of the documentation, carried out on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import siglip_study

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-metric.md"

PROGRAM = """
import siglip_study, sys
assert siglip_study.__file__.startswith(sys.argv[1]), siglip_study.__file__
from siglip_study import metrics
from siglip_study.scoring.score_captions import score_captions
from siglip_study.report import schema
from siglip_study.report.glossary import glossary_rows
from siglip_study.report.results import CellResult

assert metrics.caption_length([["one", "two"], []]).tolist() == [2, 0]
captions = ["one two three", "", "one two three four five six"]
found = score_captions(
    captions, [["one two"]] * 3, ["a", "b", "c"], language="en", train_references=[["x"], ["y"]]
)
value = found.values["caption_length"]
assert value["value"] == 3.0, value  # (3 + 0 + 6) / 3
assert value["low"] == 0.0 and value["high"] > 3.0, value  # the interval ends at the range
assert found.clips["caption_length"].to_list() == [3.0, 0.0, 6.0]
assert found.metrics["caption_length"]["unit"] == "tokens"
assert set(found.values) | set(found.not_computed) == set(metrics.METRICS)
assert schema.METRICS[-1] == "caption_length" and "caption_length" in schema.CELLS
cell = CellResult("x", "report", {"metrics": found.metrics, "not_computed": found.not_computed})
row = next(row for row in glossary_rows([cell]) if row["name"] == "caption_length")
assert row["definition"] == "Tokens of a caption." and row["direction"] == "neither"
"""


def test_the_guide_works_as_written(tmp_path):
    package = tmp_path / "siglip_study"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(siglip_study.__file__).parent, package, ignore=ignored)
    pattern = r"```python\n# src/siglip_study/(metrics/\w+\.py)\n(.*?)```"
    ((name, code),) = re.findall(pattern, GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not (package / name).exists()
    (package / name).write_text(code, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    subprocess.run(program, check=True, env=environment)
