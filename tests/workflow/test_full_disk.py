"""A disk that is full ends a job in a sentence, and with room the same command ends well."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tools.fault_campaign import small_disk


def test_the_disk_fills_while_the_demo_s_clips_are_made(new_house: Callable[[], Any]) -> None:
    house = new_house()
    config, made = house.write_config("study.yaml"), "results/demo/files.json"
    try:
        with small_disk(house.folder / "results", mb=8):
            filler = house.folder / "results/filler"
            filler.write_bytes(bytes(2**23 - 2**17))
            run = house.snakemake(made, config=config)
            assert run.status != 0 and "Traceback" not in run.text
            assert run.text.splitlines()[-1].startswith(
                "siglip-study: demo found no room on a disk"
            )
            filler.unlink()
            again = house.snakemake(made, config=config)
            assert again.status == 0, again.text
            assert not list((house.folder / "results/demo").rglob("*.partial*"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted here ({error})")
