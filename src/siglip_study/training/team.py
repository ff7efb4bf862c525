"""Processes that train one model together on the GPUs of one machine.

This process is rank 0; the others are started here, as fresh interpreters, and end with it. A rank
that dies ends the job with one sentence, wherever rank 0 is waiting at that moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import Tensor, nn

from siglip_study.base.errors import StudyError

if TYPE_CHECKING:
    from accelerate import Accelerator
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import check_cuda_p2p_ib_support

from siglip_study.base.jobs import out_of_memory
from siglip_study.models.devices import held_locks, pick_device, single

# ---- What the ranks of a data-parallel training tell each other.
#
# Each rank holds the whole model and takes its share of every step's clips; gradients are summed,
# so
# all ranks make the same step. With one rank nothing here does anything.


def sum_gradients(
    parameters: Sequence[nn.Parameter], loss: Tensor, accelerator: Accelerator
) -> Tensor:
    """Sum gradients over ranks in place, and the loss; one message for all of them.

    Every rank must have gradients of the same parameters.
    """
    if accelerator.num_processes == 1:
        return loss
    trained = [p for p in parameters if p.grad is not None]
    flat = torch.cat([*(p.grad.reshape(-1).float() for p in trained), loss.reshape(1).float()])  # type: ignore[union-attr]
    torch.distributed.all_reduce(flat)
    start = 0
    for parameter in trained:
        part = flat[start : start + parameter.numel()].view_as(parameter)
        parameter.grad = part.to(parameter.dtype)
        start += parameter.numel()
    return flat[-1]


def sum_numbers(numbers: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Sums over ranks, in double precision."""
    if accelerator.num_processes == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(total)
    return [float(number) for number in total.cpu()]


@torch.no_grad()
def copy_from_rank_0(tensors: Iterable[Tensor], accelerator: Accelerator) -> None:
    """Give every rank the values of rank 0, in place."""
    if accelerator.num_processes > 1:
        for tensor in tensors:
            torch.distributed.broadcast(tensor.detach(), 0)


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


log = logging.getLogger(__name__)

# Rank 0 captions a few clips and saves while the others wait for its gradients.
_PATIENCE = timedelta(minutes=30)
# What rank 0 gets to end by itself, with its own sentence, once another rank has died.
_GRACE_S = 10.0
_LOOPBACK = "127.0.0.1"
_SENTENCE = "siglip-study: "


@contextmanager
def team(ranks: int, device: str, target: str, order: Mapping[str, Any]) -> Iterator[Accelerator]:
    """Be rank 0 of ``ranks`` processes for the length of the block.

    Args:
        ranks: processes, and GPUs; with one, nothing is started.
        device: "auto", "cuda" or "cpu"; on the CPU the processes share its cores.
        target: ``module:function``, called by each other rank with ``order`` and its accelerator.
            It must take part in everything that the block does together.
        order: JSON.

    Raises:
        StudyError: there are fewer GPUs, or another rank has failed.
    """
    chosen = pick_device(device, ranks)
    if ranks == 1:
        yield single(chosen)
        return
    _allow_slow_links(chosen)
    store = _store_of_this_machine(ranks)
    message = {"ranks": ranks, "port": store.port, "device": chosen.type, "target": target}
    followers = _Followers(ranks, {**message, "order": dict(order)})
    try:
        yield _join(0, ranks, store, chosen.type)
    except BaseException as error:
        followers.leave(error)
        raise
    # Before the others are waited for: NCCL's farewell takes all of them.
    torch.distributed.destroy_process_group()
    followers.leave(None)
    # What follows is the work of one process; accelerate's state is shared by all its objects.
    AcceleratorState._reset_state(reset_partial_state=True)
    single(chosen)


def _store_of_this_machine(ranks: int) -> torch.distributed.TCPStore:
    """Where ranks meet. By itself it would listen on every interface, and it asks nobody's name.

    The port is bound when it is chosen, so nobody else can take it.
    """
    with socket.create_server((_LOOPBACK, 0), backlog=ranks) as listening:
        store = torch.distributed.TCPStore(
            _LOOPBACK,
            listening.getsockname()[1],
            ranks,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listening.fileno(),
        )
        listening.detach()  # the store closes it
    return store


def _join(rank: int, ranks: int, store: torch.distributed.Store, device: str) -> Accelerator:
    here = torch.device(device, rank) if device == "cuda" else None
    if here is not None:
        torch.cuda.set_device(here)
    elif Path("/sys/class/net/lo").exists():
        # Else gloo asks which address the machine's name has, and some have none.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.distributed.init_process_group(
        "nccl" if here is not None else "gloo",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=_PATIENCE,
        device_id=here,
    )
    AcceleratorState._reset_state(reset_partial_state=True)
    threads, before = torch.get_num_threads(), dict(os.environ)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
    try:
        return single(torch.device(device))
    finally:
        os.environ.clear()
        os.environ.update(before)
        torch.set_num_threads(threads)  # accelerate counts cores its own way


def _allow_slow_links(device: torch.device) -> None:
    # GeForce cards of the 40 series have no direct links, and NCCL fails unless it is told so.
    if device.type == "cuda" and not check_cuda_p2p_ib_support():
        os.environ.setdefault("NCCL_P2P_DISABLE", "1")
        os.environ.setdefault("NCCL_IB_DISABLE", "1")


class _Followers:
    """Ranks 1 and up, each watched by a thread."""

    def __init__(self, ranks: int, message: dict[str, Any]) -> None:
        self._ranks = ranks
        self._leaving = threading.Event()
        self._failed = threading.Event()
        self._sentence = ""
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []
        self._watchers: list[threading.Thread] = []
        package = str(Path(__file__).parent.parent.parent)
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        for rank in range(1, ranks):
            # A fresh interpreter: this one's main module is a script that must not run twice.
            child = subprocess.Popen(
                [sys.executable, "-m", "siglip_study.training.team"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                pass_fds=held_locks(),
            )
            assert child.stdin is not None
            try:
                child.stdin.write(json.dumps({**message, "rank": rank}).encode() + b"\n")
                child.stdin.flush()  # and left open: its end tells the child that rank 0 is gone
            except BrokenPipeError:
                pass  # it is dead already, which its watcher reports
            self._children.append(child)
            watcher = threading.Thread(target=self._watch, args=(rank, child), daemon=True)
            watcher.start()
            self._watchers.append(watcher)

    def leave(self, error: BaseException | None) -> None:
        """End the others: they finish where rank 0 did, else they are killed.

        Raises:
            StudyError: one of them failed, and that is why rank 0 did.
        """
        if error is None:
            for watcher in self._watchers:
                watcher.join(60.0)
        elif isinstance(error, Exception) and not isinstance(error, StudyError):
            # A rank's death breaks the messages of the living; it is seen a moment later.
            self._failed.wait(3.0)
        self._leaving.set()
        self._kill()
        own = error is not None and not isinstance(error, Exception)  # such as Ctrl-C
        if self._failed.is_set() and not own and not isinstance(error, StudyError):
            raise StudyError(self._sentence) from error

    def _kill(self) -> None:
        for child in self._children:
            child.kill()
        for child in self._children:
            child.wait()

    def _watch(self, rank: int, child: subprocess.Popen[bytes]) -> None:
        last: deque[str] = deque(maxlen=50)
        reader = threading.Thread(target=_read, args=(rank, child, last), daemon=True)
        reader.start()
        code = child.wait()
        reader.join(1.0)  # not for ever: a process of the child's may hold the pipe
        if code == 0 or self._leaving.is_set():
            return
        with self._lock:
            if self._failed.is_set():
                return
            self._sentence = _why(rank, self._ranks, child.pid, code, list(last))
            self._failed.set()
        if self._leaving.wait(_GRACE_S):
            return
        # Rank 0 waits for the dead one's gradients, where no exception can reach it.
        log.error("%s%s", _SENTENCE, self._sentence)
        for other in self._children:
            other.kill()
        sys.stdout.flush()
        os._exit(1)


def _read(rank: int, child: subprocess.Popen[bytes], last: deque[str]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        text = line.decode(errors="replace").rstrip()
        last.append(text)
        log.debug("rank %d: %s", rank, text)


def _why(rank: int, ranks: int, pid: int, code: int, last: list[str]) -> str:
    told = [line.removeprefix(_SENTENCE) for line in last if line.startswith(_SENTENCE)]
    if told:
        return told[-1]
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}
        how = f"by {names.get(-code, f'signal {-code}')}"
    else:
        words = next((line for line in reversed(last) if line.strip()), "none")
        words = words.removeprefix(f"[rank{rank}]: ")  # as PyTorch marks a traceback's lines
        how = f"with exit code {code}, its last words: {words[:300]!r}"
    return (
        f"rank {rank} of {ranks} (process {pid}) ended {how}; "
        "expected all ranks to train to the end: start the study again to continue."
    )


def _end_with_rank_0() -> None:
    # Unbuffered: a buffered reader that still waits when Python ends is a fatal error.
    while os.read(0, 1):
        pass
    os._exit(1)


def follow() -> None:
    """Be another rank, as the first line of standard input says."""
    message = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    logging.getLogger("siglip_study").addHandler(handler)
    ranks, device = message["ranks"], message["device"]
    if device == "cpu":
        pick_device("cpu", ranks)
    module, function = message["target"].split(":")
    try:
        target = getattr(importlib.import_module(module), function)
        store = torch.distributed.TCPStore(_LOOPBACK, message["port"], ranks, is_master=False)
        target(message["order"], _join(message["rank"], ranks, store, device))
    except StudyError as error:
        print(f"{_SENTENCE}{error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except torch.OutOfMemoryError as error:
        sentence = out_of_memory(f"rank {message['rank']} of {ranks}", error)
        print(f"{_SENTENCE}{sentence}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    follow()
