"""Every command ends a user's mistake in one sentence."""

import signal
import subprocess
import sys

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.models import fetch
from siglip_study.planning import __main__ as rehearse
from siglip_study.planning import equal_time, power


def test_statuses(capsys):
    def fail():
        raise StudyError("a.yaml: found 1; expected 2.")

    assert [exit_status(lambda: None), exit_status(lambda: 3), exit_status(fail)] == [0, 3, 1]
    assert capsys.readouterr().err == "siglip-study: a.yaml: found 1; expected 2.\n"
    with pytest.raises(ValueError, match="a bug"):  # is no user's mistake
        exit_status(lambda: (_ for _ in ()).throw(ValueError("a bug")))


def test_a_reader_that_stops_ends_a_command_without_a_word():
    code = (
        "from siglip_study.base.jobs import exit_status\nimport sys\n"
        "sys.exit(exit_status(lambda: print('x' * 10**6)))"
    )
    pipe = subprocess.PIPE
    command = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe)
    command.stdout.close()
    assert (command.stderr.read(), command.wait()) == (b"", 128 + signal.SIGPIPE)
    command.stderr.close()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (fetch.main, ["list", "none.yaml"]),
        (rehearse.main, ["none.yaml"]),
        (equal_time.main, ["none.yaml", "--reference", "linear"]),
    ],
)
def test_a_config_that_is_not_there(command, arguments, capsys):
    assert command(arguments) == 1
    assert capsys.readouterr().err == "siglip-study: none.yaml: no such config file.\n"


def test_power_without_scores(tmp_path, capsys):
    assert power.main([str(tmp_path / "none.yaml")]) == 1
    assert capsys.readouterr().err.startswith("siglip-study: ")
