"""Ranks: processes that train one model together on the GPUs of one machine.

Each rank holds the whole model and takes its share of every step's clips; gradients are summed, so
all ranks make the same step. accelerate knows the ranks but does not start them here: its launcher
runs a script from its first line, and its notebook launcher forks, which CUDA and the thread pools
of a job that has begun do not survive. torch's ``spawn`` does, and ends all ranks with any of them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVarTuple

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import check_cuda_p2p_ib_support
from torch import Tensor, nn
from torch.multiprocessing import ProcessContext, start_processes
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from siglip_study.base.errors import (
    StudyError,
    first_line,
    is_full_disk,
    is_lost_gpu,
    is_out_of_memory,
)
from siglip_study.base.jobs import log_file, log_to, out_of_memory
from siglip_study.models.devices import pick_device, single

Args = TypeVarTuple("Args")

# Rank 0 captions a few clips and saves while the others wait for its gradients.
_PATIENCE = timedelta(minutes=30)
# For messages that wait for no GPU.
_hosts: torch.distributed.ProcessGroup | None = None


# ---- Starting ranks, and ending them.


def launch(
    work: Callable[[Accelerator, *Args], None], ranks: int, device: torch.device, *args: *Args
) -> None:
    """Call ``work(accelerator, *args)`` in each of ``ranks`` processes; one rank is this process.

    ``device`` is what was picked for all of them.

    Several are fresh interpreters that end with this one, each with a GPU, or a share of the CPU's
    cores. What they are given is pickled, so functions among it must belong to a module.

    Raises:
        StudyError: a rank raised one, found no memory, or was killed.
        RuntimeError, OSError: a rank lost its GPU, or found a disk full; the error says so.
    """
    if ranks == 1:
        work(single(device), *args)
        return
    if device.type == "cuda" and not check_cuda_p2p_ib_support():
        # GeForce cards of the 40 series have no direct links, and NCCL fails unless it is told so.
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")
    with TemporaryDirectory(prefix="siglip-study-ranks-") as folder:
        place = (ranks, device.type, Path(folder), log_file())
        context = start_processes(_rank, (*place, work, args), ranks, join=False, daemon=True)
        try:
            while not context.join():
                pass
        except ProcessException as error:
            _raise_sentence(error, context, Path(folder))


def _raise_sentence(error: ProcessException, context: ProcessContext, folder: Path) -> None:
    """Say why the ranks ended; a defect's traceback is raised as it is."""
    for name, kind in (("sentence", StudyError), ("failure", RuntimeError)):
        if (folder / name).is_file():
            raise kind((folder / name).read_text(encoding="utf-8")) from None
    if isinstance(error, ProcessExitedException) and error.exit_code == errno.ENOSPC:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from None
    # A rank that was killed comes first: its death breaks the messages of the living.
    killed = [
        (rank, signal.Signals(-process.exitcode).name)
        for rank, process in enumerate(context.processes)
        if process.exitcode < 0 and process.exitcode != -signal.SIGTERM
    ]
    if killed:
        rank, how = killed[0]
    elif isinstance(error, ProcessExitedException):
        rank, how = error.error_index, error.signal_name or f"exit code {error.exit_code}"
    else:
        raise error
    raise StudyError(
        f"rank {rank} of {len(context.processes)} (process {context.processes[rank].pid}) ended "
        f"by {how}; expected all ranks to train to the end: start the study again to continue."
    ) from None


def _rank(
    rank: int,
    ranks: int,
    device: str,
    folder: Path,
    log_path: str | None,
    work: Callable[..., None],
    args: tuple[Any, ...],
) -> None:
    """Be one of the ranks."""
    # Sent when the first process dies: end at once, whatever is waited for.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if log_path is not None:
        log_to(log_path, progress=rank == 0)
    try:
        work(_join(rank, ranks, device, folder / "rendezvous"), *args)
        leave()
    except Exception as error:
        who = f"rank {rank} of {ranks}"
        if isinstance(error, StudyError):
            name, said = "sentence", str(error)
        elif is_out_of_memory(error):
            name, said = "sentence", out_of_memory(who, error)
        elif is_lost_gpu(error) or is_full_disk(error):
            name, said = "failure", f"{who}: {first_line(error)}"
        else:
            raise
        status = 1
        try:
            if name == "failure":
                traceback.print_exc()
            (folder / name).write_text(said, encoding="utf-8")
        except OSError:  # no room for the sentence either
            (folder / name).unlink(missing_ok=True)
            status = errno.ENOSPC
        os._exit(status)  # what NCCL waits for at the end may never come


def _join(rank: int, ranks: int, device: str, rendezvous: Path) -> Accelerator:
    """Meet the other ranks in a file: no port is opened for that, and nobody's name asked."""
    global _hosts
    here = torch.device(device, rank) if device == "cuda" else None
    if here is not None:
        torch.cuda.set_device(here)
    if Path("/sys/class/net/lo").exists():
        # Else gloo asks which address the machine's name has, and some have none.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "nccl" if here is not None else "gloo",
        init_method=rendezvous.as_uri(),
        rank=rank,
        world_size=ranks,
        timeout=_PATIENCE,
        device_id=here,
    )
    _hosts = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    accelerator = single(torch.device(device))
    if here is None:
        pick_device("cpu", ranks)  # threads: accelerate counts cores its own way
    return accelerator


def leave() -> None:
    """Send and expect no more messages: what follows is the work of one process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


# ---- What ranks tell each other. With one rank nothing here does anything.


def first_in_need(needs: bool, accelerator: Accelerator) -> int | None:
    """The first rank with a need that all ranks must know; None: no rank has one.

    Every rank calls this. It waits for no work on the GPU.
    """
    ranks = accelerator.num_processes
    first = torch.tensor(accelerator.process_index if needs else ranks)
    if ranks > 1:
        torch.distributed.all_reduce(first, torch.distributed.ReduceOp.MIN, group=_hosts)
    return int(first) if first < ranks else None


def sum_gradients(
    parameters: Sequence[nn.Parameter], loss: Tensor, accelerator: Accelerator
) -> Tensor:
    """Sum gradients over ranks in place, and the loss, in one message.

    Every rank must have gradients of the same parameters.
    """
    if accelerator.num_processes == 1:
        return loss
    trained = [p for p in parameters if p.grad is not None]
    flat = torch.cat([*(p.grad.reshape(-1).float() for p in trained), loss.reshape(1).float()])  # type: ignore[union-attr]
    torch.distributed.all_reduce(flat)
    *parts, total = flat.split([*(p.numel() for p in trained), 1])
    for parameter, part in zip(trained, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)
    return total[0]


def require_same_weights(
    parameters: Mapping[str, nn.Parameter], step: int, accelerator: Accelerator
) -> None:
    """Ranks that no longer hold the same bits at the same step would train different models.

    Raises:
        StudyError: they do not.
    """
    if accelerator.num_processes == 1:
        return
    digest = hashlib.sha256(str(step).encode())
    for parameter in parameters.values():
        digest.update(parameter.detach().reshape(-1).cpu().view(torch.uint8).numpy().tobytes())
    own = int.from_bytes(digest.digest()[:8], "big") >> 1
    mine = torch.tensor([own], dtype=torch.int64, device=accelerator.device)
    others: list[int] = accelerator.gather(mine).tolist()
    if len(set(others)) > 1:
        differing = [str(rank) for rank, value in enumerate(others) if value != others[0]]
        raise StudyError(
            f"after optimizer step {step}, the weights of rank {', '.join(differing)} differ from "
            "those of rank 0; expected the same bits on every GPU: train with runtime.gpus 1."
        )
