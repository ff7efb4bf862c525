"""All benchmarks at micro size on the CPU, once a session."""

from unittest import mock

import pytest
from support.tracing import untraced


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """What a run of every single-process benchmark leaves on disk."""
    import torch

    from benchmarks.run import SCHEMA, run
    from benchmarks.sides import here
    from siglip_study.base.io import read_json

    threads = torch.get_num_threads()
    out = tmp_path_factory.mktemp("benchmarks") / "measured.json"
    names = ["training", "captions", "adapters", "tower", "decoding", "feature_job"]
    names += ["scoring", "study"]
    # One thread: nothing here is asserted about time, and several would wait for busy cores.
    with mock.patch("os.sched_getaffinity", lambda _: {0}), untraced():
        # In this process: each of its own would import everything again.
        run("micro", names, "cpu", out, rounds=1, start=here)
    torch.set_num_threads(threads)
    return read_json(out, SCHEMA)
