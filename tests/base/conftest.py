"""Scripts in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def start_script(tmp_path):
    """Write a script and start it, with the library found and its servers in ``tmp_path``."""

    def start(text: str, *arguments: str, **variables: str) -> subprocess.Popen:
        package = str(Path(__file__).parents[2] / "src")
        script = tmp_path / f"script{len(list(tmp_path.glob('*.py')))}.py"
        script.write_text(text, "utf-8")
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env=os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": package} | variables,
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
