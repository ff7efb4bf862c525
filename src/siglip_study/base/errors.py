"""The one exception a user is meant to see, and what others say."""

import errno
from pathlib import Path


class StudyError(Exception):
    """A mistake the user can mend.

    The message is one sentence that names the file or key, what was found, and what was expected.
    Scripts print it without a traceback; anything else that escapes is a defect of this project.
    """


class Damaged(StudyError):
    """Something of a study does not hold what was written.

    ``paths`` must go for it to be made anew: of a folder that appears as one, the folder; of what
    no rule declares, what stands for it. A job sees to that itself (:mod:`.jobs`).
    """

    def __init__(self, found: str, *paths: Path) -> None:
        super().__init__(found, *paths)  # as pickle wants it
        self.found, self.paths = f"{found}; expected what was written", paths

    def __str__(self) -> str:
        named, asked = (each.join(map(str, self.paths)) for each in (" and ", " "))
        return (
            f"{self.found}: to make it anew, delete {named} and ask its study for it "
            f"(snakemake --cores 1 --resources gpu=1 {asked}, with the study's --configfile)."
        )


def first_line(error: BaseException) -> str:
    """What an exception says, without the advice that follows; its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch found no room on a GPU; told by name, for importing it takes seconds."""
    return any(
        kind.__name__ == "OutOfMemoryError" and kind.__module__.split(".")[0] == "torch"
        for kind in type(error).__mro__
    )


#: What CUDA and NCCL say of a device that failed, is gone or is held by others; never of a wrong
#: index.
_LOST = (
    *("fallen off the bus", "GPU is lost", "no CUDA-capable device", "uncorrectable", "ECC"),
    *("unspecified launch failure", "unknown error", "busy or unavailable", "not yet initialized"),
    *("NVLink", "launch timed out", "hardware", "No CUDA GPUs are available"),
    *("Unable to determine the device handle", "unhandled cuda error", "unhandled system error"),
)
#: What NCCL says, after the same words, where it met something else: no room, or a kernel's fault.
_NOT_LOST = ("out of memory", "illegal memory access", "No space left on device")


def is_lost_gpu(error: BaseException) -> bool:
    """Whether a GPU or its driver failed, which no config can mend."""
    told = first_line(error)
    return (
        isinstance(error, RuntimeError)
        and any(who in told for who in ("CUDA", "NCCL", "device handle"))
        and any(words in told for words in _LOST)
        and not any(words in str(error) for words in _NOT_LOST)
    )


def is_full_disk(error: BaseException) -> bool:
    """Whether a write found no room, or a quota was met; libraries tell it in words alone."""
    # The last is all that polars says of a Parquet file's end.
    told = ("No space left on device", "Disk quota exceeded", "thrift: transport error")
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(
        words in str(error) for words in told
    )


class ClipError(Exception):
    """A clip cannot be used; the message is the reason, ``kind: detail``."""
