"""The public names: each is there, its examples run, and none imports more than it needs."""

import pkgutil
import re
import subprocess
import sys

import pytest

from tools.reach import ROOT

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(siglip_study\.[\w.]+)", PAGE)))
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
HEAVY = {"torch", "transformers", "peft", "snakemake", "kiwipiepy", "av", "decord"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_page_is_there(name):
    assert pkgutil.resolve_name(name) is not None  # imported, where it is a module


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_of_the_page_runs_as_it_stands(block):
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "print" not in block or done.stdout


@pytest.mark.parametrize("room", sorted({".".join(name.split(".")[:2]) for name in NAMES}))
def test_importing_a_public_room_loads_no_model_library(room):
    code = f"import sys\nimport {room}\nprint(*({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
