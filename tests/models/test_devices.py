"""Each process a GPU of its own, by real processes on GPUs of a name only; room on one."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from siglip_study.base.errors import StudyError
from siglip_study.config.study import RuntimeConfig
from siglip_study.models import devices

TAKE = """
import logging, sys
from pathlib import Path
from siglip_study.models.devices import wait_for_gpus
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
print(*wait_for_gpus(int(sys.argv[1]), sys.argv[2].split(","), Path(sys.argv[3])), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def take(tmp_path):
    """Start a process that takes GPUs and keeps them until it dies."""
    started = []

    def start(count, gpus="GPU-a,GPU-b,GPU-c"):
        child = subprocess.Popen(
            [sys.executable, "-c", TAKE, str(count), gpus, str(tmp_path / "locks")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def line(child):
    return child.stdout.readline().strip()


def test_concurrent_jobs_get_gpus_of_their_own(take):
    assert sorted(map(line, [take(1), take(1), take(1)])) == ["GPU-a", "GPU-b", "GPU-c"]


def test_a_killed_job_gives_its_gpus_back_and_waiting_says_who_holds_them(take):
    first = take(2)
    assert line(first) == "GPU-a GPU-b"
    second = take(2)
    said = line(second)
    assert said.startswith("waiting for 2 GPU(s); GPU-a is or was last taken by process ")
    assert str(first.pid) in said
    os.kill(first.pid, signal.SIGKILL)
    # It held none meanwhile: all at once or nothing.
    assert line(second) == "GPU-a GPU-b"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Three GPUs, the busiest named first by the driver; nothing taken yet."""
    monkeypatch.setattr(devices, "FOLDER", tmp_path / "locks")
    monkeypatch.setattr(devices, "_held", held := [])
    monkeypatch.setattr(devices, "gpus_of_torch", lambda: ["GPU-x", "GPU-y"])
    answer = "GPU-a, 70000\nGPU-b, 3\nGPU-c, 900\n"
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, answer, "")
    )
    for name in ("CUDA_VISIBLE_DEVICES", devices._TAKEN):
        monkeypatch.setenv(name, "")  # so that whatever the code sets is undone
        monkeypatch.delenv(name)
    yield monkeypatch
    for lock in held:
        lock.release()


def test_the_emptiest_gpus_are_taken_once_and_the_others_hidden(machine):
    devices.take_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-c"
    devices.take_gpus(1)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b,GPU-c"
    # By number: containers run under user ids that no file of passwords knows.
    owners = [path.read_text() for path in devices.FOLDER.glob("GPU-*.lock")]
    assert owners == [f"process {os.getpid()} of uid {os.getuid()}"] * 2


@pytest.mark.parametrize(
    ("given", "count", "left"),
    [
        ("0,1", 2, "0,1"),
        ("", 1, ""),
        ("4,5", 1, "GPU-x"),
        ("MIG-a", 1, "MIG-a"),
        ("MIG-a,MIG-b", 1, "MIG-a"),
    ],
)
def test_what_a_scheduler_has_given_is_used_and_nothing_else(machine, given, count, left):
    machine.setenv("CUDA_VISIBLE_DEVICES", given)
    devices.take_gpus(count)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left
    assert len(devices._held) == (count if given else 0)


def test_a_job_of_all_given_gpus_and_one_of_some_do_not_meet(machine, take):
    """The first is given no choice, and still says what it uses."""
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    devices.take_gpus(2)
    machine.undo()
    assert line(take(1, "GPU-x,GPU-y")).startswith("waiting for 1 GPU(s)")


@pytest.mark.parametrize(("given", "seen"), [("0,1", 2), (None, 3)])
def test_fewer_gpus_than_asked_for_is_a_sentence(machine, given, seen):
    if given:
        machine.setenv("CUDA_VISIBLE_DEVICES", given)
    with pytest.raises(StudyError, match=rf"runtime\.gpus is 4, but this job can see {seen}.*\.$"):
        devices.take_gpus(4)


def test_given_gpus_are_used_where_nothing_can_be_locked(machine, tmp_path, caplog):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "choosing.lock").mkdir()
    machine.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with caplog.at_level("WARNING", "siglip_study"):
        devices.take_gpus(2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1" and "without a lock" in caplog.text
    with pytest.raises(StudyError, match="lock files"):
        devices.take_gpus(1)


def test_a_driver_that_does_not_answer_is_told_and_pytorch_asked(machine, caplog):
    failed = subprocess.CompletedProcess([], 9, "Failed to initialize NVML\n", "")
    machine.setattr(subprocess, "run", lambda *args, **options: failed)
    with caplog.at_level("WARNING", "siglip_study"):
        assert devices.gpus_of_machine() == ["GPU-x", "GPU-y"]
    [record] = caplog.records
    assert "exit code 9 (Failed to initialize NVML)" in record.getMessage()


def test_a_machine_without_a_driver_has_nothing_to_take(machine):
    machine.setattr(devices, "gpus_of_machine", list)
    devices.take_gpus(1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_work_on_the_cpu_takes_no_gpu(monkeypatch):
    monkeypatch.setattr(devices, "take_gpus", lambda count: pytest.fail("took a GPU"))
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    assert devices.pick_device("cpu").type == "cpu"


CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("asked", "threads"), [(1, 1), (None, CORES), (CORES + 1, CORES)])
def test_a_job_on_the_cpu_has_the_threads_that_the_config_gives_it(monkeypatch, asked, threads):
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    devices.device_of(RuntimeConfig(device="cpu", cpu_threads=asked))
    assert taken == [threads]


def test_a_forked_worker_does_not_keep_its_parents_gpu(machine, tmp_path):
    """The worker lives on; the lock of its dead parent is free."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from siglip_study.models.devices import wait_for_gpus\n"
        f"wait_for_gpus(1, ['GPU-a'], Path({str(tmp_path / 'locks')!r}))\n"
        "if os.fork() == 0:\n    os.close(1)\n    sys.stdin.read()\n    os._exit(0)\n"
        "print('forked', flush=True)\nos._exit(0)\n"
    )
    reads, writes = os.pipe()  # keeps the orphan alive until this test ends
    machine.undo()
    try:
        done = subprocess.run([sys.executable, "-c", code], stdin=reads, stdout=subprocess.PIPE)
        assert done.stdout == b"forked\n"
        before = list(devices._held)
        assert devices.wait_for_gpus(1, ["GPU-a"], tmp_path / "locks") == ["GPU-a"]
        while len(devices._held) > len(before):
            devices._held.pop().release()
    finally:
        os.close(reads)
        os.close(writes)


def test_who_holds_a_gpu_sees_that_somebody_waits_for_one(tmp_path):
    """The waiting process has the GPU's lock against it; the kernel ends its wait with it."""
    locks = tmp_path / "locks"
    assert not devices.gpu_is_wanted(locks)
    before = list(devices._held)
    assert devices.wait_for_gpus(1, ["GPU-a"], locks) == ["GPU-a"]
    assert not devices.gpu_is_wanted(locks)
    code = (
        "from pathlib import Path\nfrom siglip_study.models.devices import wait_for_gpus\n"
        f"print(wait_for_gpus(1, ['GPU-a'], Path({str(locks)!r})))\n"
    )
    waiting = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    while not devices.gpu_is_wanted(locks):
        assert waiting.poll() is None
        time.sleep(0.02)
    while len(devices._held) > len(before):
        devices._held.pop().release()
    assert waiting.communicate()[0].strip() == "['GPU-a']"
    assert not devices.gpu_is_wanted(locks)


def test_a_limit_is_laid_on_the_device_of_this_process_by_its_index(monkeypatch):
    gib, laid = 2**30, []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    total = SimpleNamespace(total_memory=80 * gib)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: total)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *given: laid.append(given)
    )
    for device, limit in (("cuda", 20.0), ("cuda:1", 500.0), ("cuda", None), ("cpu", 20.0)):
        devices.limit_memory(torch.device(device), limit)
    assert laid == [(0.25, 0), (1.0, 1)]


@pytest.mark.gpu
def test_past_its_limit_a_job_finds_no_room():
    device = devices.pick_device("cuda")
    held = torch.cuda.memory_reserved(device)
    try:
        devices.limit_memory(device, 1 + held / 2**30)
        torch.empty(2**29, dtype=torch.uint8, device=device)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2**31, dtype=torch.uint8, device=device)
    finally:
        devices.limit_memory(device, 1e6)


def test_free_memory_counts_what_is_cached_and_the_limit(monkeypatch):
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20 * gib)
    free = {limit: devices.free_bytes(torch.device("cuda"), limit) for limit in (None, 500, 24, 10)}
    assert free == {None: 50 * gib, 500: 50 * gib, 24: 4 * gib, 10: 0}
