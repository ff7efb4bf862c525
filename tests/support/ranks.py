"""What the ranks of a training run in tests: functions that a fresh interpreter can import."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import torch

from siglip_study.base.errors import StudyError
from siglip_study.models import llm
from siglip_study.models.hub import load_weights
from siglip_study.models.vlm import VisionLanguageModel


def running(starter: int) -> list[int]:
    """Processes of the ranks that ``starter`` has launched, in their order."""
    children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
    commands = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return sorted(pid for pid, command in commands.items() if b"spawn_main" in command)


def kill_the_job(folder: Path) -> str:
    """Asked by rank 0 after an epoch: what the job waits for outlives it or not."""
    job = os.getppid() if torch.distributed.is_initialized() else os.getpid()
    (folder / "ranks.json").write_text(json.dumps(running(job)))
    os.kill(job, signal.SIGKILL)
    return ""


def note_loaded(folder, loaded, model) -> None:
    """What stage 2 calls while its model is loaded."""
    assert not torch.distributed.is_initialized()
    with (folder / "loaded").open("a") as file:
        file.write("once\n")


def launch_in_fp32(launch, work, *others) -> None:
    """``launch`` a training without bf16, in which a GPU's rounding is no more than a CPU's."""
    launch(partial(_in_fp32, work), *others)


def _in_fp32(work, accelerator, *args) -> None:
    def weights(kind, model, revision, key, dtype, **options):
        return load_weights(kind, model, revision, key, torch.float32, **options)

    with (
        mock.patch.object(llm, "load_weights", weights),
        mock.patch.object(accelerator, "autocast", nullcontext),
    ):
        work(accelerator, *args)


def launch_short_of_room(launch, folder, work, *others) -> None:
    """``launch`` a training whose rank 1 has room for a clip a pass, as on a GPU that fills up."""
    launch(partial(_short_of_room, work, folder), *others)


def _short_of_room(work, folder, accelerator, *args) -> None:
    plain = VisionLanguageModel.caption_loss

    def caption_loss(self, features, captions):
        if self.training and len(captions) > 1:
            with (folder / "no_room").open("a") as file:
                file.write(f"rank 1, {len(captions)} clips\n")
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return plain(self, features, captions)

    if accelerator.process_index == 1:
        VisionLanguageModel.caption_loss = caption_loss
    work(accelerator, *args)


# ---- Works for ``launch``.


def mistaken(accelerator, number):
    """Rank 1 finds a mistake while rank 0 is where no exception reaches it."""
    if accelerator.process_index == 0:
        threading.Event().wait()
    raise StudyError(f"order {number}: found a mistake.")


def failing(accelerator, error):
    """Rank 1 meets what no config mends."""
    if accelerator.process_index == 0:
        threading.Event().wait()
    raise error


def without_any_room(accelerator):
    """Rank 1 meets a full disk on which its sentence finds no room either."""
    if accelerator.process_index == 0:
        threading.Event().wait()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    mock.patch.object(Path, "write_text", side_effect=full).start()
    raise full


def broken(accelerator):
    """A defect in rank 1."""
    if accelerator.process_index == 0:
        threading.Event().wait()
    raise ZeroDivisionError("a defect")


def listed_and_killed(accelerator, folder):
    """Both write where they listen; then rank 1 dies while rank 0 waits for its message."""
    write_listeners(accelerator, folder)
    if accelerator.process_index == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    accelerator.wait_for_everyone()


def write_listeners(accelerator, folder):
    """Addresses, as the kernel spells them, at which this rank listens after a message."""
    accelerator.wait_for_everyone()
    sockets = {
        link.readlink().name for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
    }
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        if (path := Path("/proc/net") / name).is_file()
        for row in path.read_text().splitlines()[1:]
    ]
    heard = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    (folder / f"rank{accelerator.process_index}.json").write_text(json.dumps(heard))
    accelerator.wait_for_everyone()
