"""The how-to of the documentation, carried out on a copy of the package."""

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
from siglip_study.metrics.registry import METRICS
from siglip_study.scoring.score_captions import score_captions
from siglip_study.report import schema
from siglip_study.report.glossary import glossary_rows
from siglip_study.report.results import Cell

captions = ["one two three", "", "one two three four five six"]
found = score_captions(
    captions, [["one two"]] * 3, ["a", "b", "c"], language="en", train_references=[["x"], ["y"]]
)
value = found.values["caption_length"]
assert value["value"] == 3.0, value  # (3 + 0 + 6) / 3
assert value["low"] == 0.0 and value["high"] > 3.0, value  # the interval ends at the range
assert found.clips["caption_length"].to_list() == [3.0, 0.0, 6.0]
assert found.metrics["caption_length"]["unit"] == "tokens"
assert set(found.values) | set(found.not_computed) == set(METRICS)
assert set(schema.METRICS) == set(METRICS) - {"truncated_share"}
assert "caption_length" in schema.CELLS and "caption_length" in schema.CLIPS
cell = Cell("x", "report", {"metrics": found.metrics, "not_computed": found.not_computed})
row = next(row for row in glossary_rows([cell]) if row["name"] == "caption_length")
assert row["definition"] == "Tokens of a caption." and row["direction"] == "neither"
"""


def insert(path: Path, before: str, text: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1, f"{path.name} has {source.count(before)} times {before!r}"
    path.write_text(source.replace(before, text + before), encoding="utf-8")


def test_the_guide_works_as_written(tmp_path):
    package = tmp_path / "siglip_study"
    shutil.copytree(
        Path(siglip_study.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    blocks = dict(
        re.findall(
            r"```python\n# src/siglip_study/([\w/]+\.py)\n(.*?)```",
            GUIDE.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
    )
    names = ("length", "registry", "families", "score")
    assert list(blocks) == [f"metrics/{name}.py" for name in names]
    new, entry, family, call = blocks.values()
    metrics = package / "metrics"
    (metrics / "length.py").write_text(new, encoding="utf-8")
    insert(metrics / "registry.py", ")\n\nMETRICS: dict", entry)
    load = "from siglip_study.metrics.length import caption_length\n"
    insert(metrics / "families.py", "from siglip_study.metrics.meteor import", load)
    with (metrics / "families.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{family}")
    insert(metrics / "score.py", "    wanted = reference_tokens(", call)
    name = '    "caption_length",\n'
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    program = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    forgotten = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert "values per clip of caption_length; expected in CLIP_METRICS" in forgotten.stderr
    insert(metrics / "score.py", ")\n\n\ndef score_captions(", name)
    schema = package / "reporting" / "schema.py"
    insert(schema, ")\n\n#: What a run took", name)
    insert(
        schema, '    "loss_matched": REAL,\n    "loss_shuffled"', '    "caption_length": REAL,\n'
    )
    subprocess.run(program, check=True, env=environment)
