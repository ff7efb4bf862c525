"""Where a study may lie: names of folders that work, and those that are refused at the start."""

import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.clips import write_video

#: Blanks, quotes, and Korean as macOS stores it.
ODD = unicodedata.normalize("NFD", '내 "영상" it\'s')


@pytest.fixture
def house_in(new_house: Callable[[], Any]) -> Callable[[Path], Any]:
    """A house in a folder that the test names."""
    kind = type(new_house())

    def built(folder: Path) -> Any:
        folder.mkdir()
        return kind(folder)

    return built


def write_dataset(root: Path) -> dict[str, str]:
    """A table a split with three clips each; braces may stand in the names of data."""
    for i, split in enumerate(("train", "selection", "report")):
        rows = ["path,caption"]
        for j in range(3):
            name = f"{ODD}/{{{split}}}{j}.mp4"
            write_video(root / name, [np.full((48, 64, 3), 30 * i + 9 * j, np.uint8)] * 30)
            quoted = name.replace('"', '""')
            rows.append(f'"{unicodedata.normalize("NFC", quoted)}",공이 구른다.')
        (root / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8")
    return {"root": str(root), "layout": "csv"}


def test_blanks_quotes_and_korean_in_every_path(house_in, tmp_path):
    house = house_in(tmp_path / ODD)
    data = write_dataset(tmp_path / f"{ODD} {{data}}")
    config = house.write_config(f"{ODD}.yaml", demo=None, data=data, output_dir=f"결과 {ODD}")
    done = house.snakemake(f"결과 {ODD}/data/manifest.parquet", config=config)
    assert done.status == 0, done.text
    told = "Usable clips: 3 train, 3 selection, 3 report; none was left out."
    assert done.text.count(told) == 1
    assert len(pl.read_parquet(house.folder / f"결과 {ODD}/data/manifest.parquet")) == 9


def test_a_checkout_with_braces_is_refused_in_one_sentence(house_in, tmp_path):
    done = house_in(tmp_path / "my {study}").snakemake("--dry-run")
    assert done.status == 1 and "expected a folder without braces" in done.text
    assert "Traceback" not in done.text


def test_an_environment_in_a_folder_with_blanks_is_refused_in_one_sentence(house_in, tmp_path):
    house = house_in(tmp_path / "study")
    folder = tmp_path / "my env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    done = subprocess.run(
        [folder / "bin" / "python", "-m", "snakemake", "--dry-run", "--cores", "1"],
        cwd=house.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 1 and "expected an environment in a folder" in done.stdout
    assert "Traceback" not in done.stdout
