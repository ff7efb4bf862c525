"""Two kills of the campaign: a job's own process, and the one that is kept."""

import random
import sys
import time

import pytest
import torch

from tools.kill_campaign import campaign

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(sys.platform != "linux", reason="nothing is kept elsewhere"),
]


class BothInTurn(random.Random):
    """First the job's own process, then the kept one."""

    turn = 0

    def choice(self, victims):
        self.turn += 1
        return victims[self.turn - 1]


def after_a_step(process, job):
    """The moment at which the first optimizer step is saved."""
    points = job.out.parent / ".resume" / job.out.name
    while process.poll() is None:
        if list(points.glob("step-*")):
            return True
        time.sleep(0.01)
    return False


def test_finished_jobs_stay_and_the_others_end_with_the_same_bits(tmp_path, monkeypatch, capsys):
    """First stages of two cells; undisturbed in this process, where nothing is kept."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        compared = campaign(
            tmp_path, 2, BothInTurn(), after_a_step, stages=[1], alone=lambda job: job.run()
        )
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    assert "own process of linear" in said and "kept process of query_abstractor" in said
    assert compared == 2 and "from the start" not in said
