"""What disks and people do to files."""

import os
from pathlib import Path


def cut(path: Path) -> None:
    """Half of it is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit of its last byte but one; size and time are those of before."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = (cut, empty, flip, delete)
