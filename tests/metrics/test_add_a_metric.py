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
from siglip_study.report.comparisons import metric_rows
from siglip_study.report.results import CellResult

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
assert "caption_length" in schema.METRICS and "caption_length" in schema.TABLES["cells"]
# After those of the files that come first; other files of the reader's may follow.
order = list(metrics.METRICS)
assert order.index("caption_length") > order.index("truncated_share")
cell = CellResult("x", "report", {"metrics": found.metrics, "not_computed": found.not_computed})
row = next(row for row in metric_rows([cell]) if row["metric"] == "caption_length")
assert row["definition"] == "Tokens of a caption." and row["higher_is_better"] is None
"""


def test_the_guide_works_as_written(tmp_path):
    package = tmp_path / "siglip_study"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(siglip_study.__file__).parent, package, ignore=ignored)
    guide = GUIDE.read_text(encoding="utf-8")
    pattern = r"```python\n# (\S+/metrics/\w+\.py)\n(.*?)```"
    (name, code), (_, test) = re.findall(pattern, guide, flags=re.DOTALL)
    # A reader who followed the guide to the letter has that file already.
    (package / name.removeprefix("src/siglip_study/")).write_text(code, encoding="utf-8")
    tests = "".join(f"{function}()\n" for function in re.findall(r"^def (test_\w+)", test, re.M))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM + test + tests, str(tmp_path)]
    subprocess.run(program, check=True, env=environment)
