"""All benchmarks at micro size on the CPU, once a session."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def importable():
    """``benchmarks`` is run from the repository's root, not installed."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="session")
def kept(importable, tmp_path_factory):
    """What a run of every single-process benchmark leaves on disk."""
    import torch

    from benchmarks.run import SCHEMA, run
    from siglip_study.base.io import read_json

    threads = torch.get_num_threads()
    out = tmp_path_factory.mktemp("benchmarks") / "measured.json"
    names = ["training", "captions", "adapters", "tower", "decoding", "feature_job"]
    names += ["scoring", "study"]
    # One thread: nothing here is asserted about time, and several would wait for busy cores.
    with mock.patch("os.sched_getaffinity", lambda _: {0}):
        run("micro", names, "cpu", out)
    torch.set_num_threads(threads)
    return read_json(out, SCHEMA)
