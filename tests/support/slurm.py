"""A real Slurm of one node with a pretended GPU, for tests. Needs root on Debian and no systemd:

apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.fault_campaign import wait

PARTITION = "tests"
_CONFIG = Path("/etc/slurm")  # elsewhere it does not reach the steps of jobs
_OURS = "# Written by the tests of siglip-study, and removed by them.\n"
_TEXT = """{ours}
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
SwitchType=switch/none
StateSaveLocation={state}/controller
SlurmdSpoolDir={state}/node
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/slurmd.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/slurmd.log
SchedulerParameters=sched_min_interval=0,defer=0
MinJobAge=300
InactiveLimit=0
KillWait=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={mb} Gres=gpu:pretended:1 State=UNKNOWN
PartitionName={partition} Nodes={host} Default=YES MaxTime=02:00:00 State=UP
"""


def why_not() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    if os.getuid() != 0 or not Path("/etc/debian_version").exists():
        return "a Slurm of one's own needs root on Debian"
    for program in ("slurmctld", "slurmd", "squeue", "munged"):
        if shutil.which(program) is None:
            return (
                f"{program} is not installed (apt-get install slurmctld slurmd slurm-client munge)"
            )
    if find_spec("snakemake_executor_plugin_slurm") is None:
        return "snakemake-executor-plugin-slurm is not installed"
    if not os.access("/etc/hosts", os.W_OK):
        return "/etc/hosts cannot be written here"
    with TemporaryDirectory() as folder:
        try:
            _make_device(Path(folder) / "null")
        except PermissionError:
            return "no device files can be made here"
    config = _CONFIG / "slurm.conf"
    if config.exists() and not config.read_text().startswith(_OURS):
        return f"this machine has a Slurm already ({config})"
    return None


@contextmanager
def running(state: Path) -> Iterator[None]:
    """Have it for a block; its state and logs lie in a folder."""
    host = os.uname().nodename.partition(".")[0]
    for part in ("controller", "node"):
        (state / part).mkdir(parents=True)
    _make_device(state / "nvidia0")
    if f" {host}\n" not in Path("/etc/hosts").read_text():
        with Path("/etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 {host}\n")
    _start_munge()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    _CONFIG.mkdir(exist_ok=True)
    text = _TEXT.format(
        ours=_OURS,
        host=host,
        state=state,
        cpus=os.cpu_count(),
        mb=memory - 512,
        partition=PARTITION,
    )
    gpu = f"NodeName={host} Name=gpu Type=pretended File={state}/nvidia0\n"
    (_CONFIG / "slurm.conf").write_text(text)
    (_CONFIG / "gres.conf").write_text(_OURS + gpu)
    try:
        run("slurmctld", "-c", "-i")
        run("slurmd", "-N", host)
        wait(lambda: run("sinfo", "-h", "-o", "%T").strip() == "idle", 60)
        yield
    finally:
        run("scancel", "--state=RUNNING", "--state=PENDING", "--user=root", check=False)
        for daemon in ("slurmd", "slurmctld"):
            _stop(state / f"{daemon}.pid")
        for name in ("slurm.conf", "gres.conf"):
            (_CONFIG / name).unlink()


def run(*command: str, check: bool = True) -> str:
    """Run a program; what it printed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=check, timeout=60)
    return done.stdout


def _make_device(path: Path) -> None:
    # slurmd wants a device of its own kind; this is a second /dev/null.
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


def _start_munge() -> None:
    folder, key = Path("/run/munge"), Path("/etc/munge/munge.key")
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return
    run("install", "-d", "-o", "munge", "-g", "munge", "-m", "0755", str(folder))
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        shutil.chown(key, "munge", "munge")
        key.chmod(0o400)
    run("runuser", "-u", "munge", "--", "/usr/sbin/munged")


def _stop(pid_file: Path) -> None:
    if not pid_file.is_file() or not pid_file.read_text().strip():
        return
    process = int(pid_file.read_text())
    os.kill(process, signal.SIGTERM)
    wait(lambda: not Path(f"/proc/{process}").exists(), 30)
