"""Where the ranks of a training meet is open to this machine alone."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed

from siglip_study.training import team


def listeners(port: int) -> list[str]:
    """Local addresses, as the kernel spells them, on which a port is listened to."""
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        if (path := Path("/proc/net") / name).is_file()
        for row in path.read_text().splitlines()[1:]
    ]
    return [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="the kernel tells in /proc")
def test_the_store_listens_on_loopback_alone_and_works():
    store = team._store_of_this_machine(2)
    assert listeners(store.port) == [f"0100007F:{store.port:04X}"]
    other = torch.distributed.TCPStore(
        "127.0.0.1", store.port, 2, is_master=False, timeout=timedelta(seconds=20)
    )
    other.set("word", "said")
    assert store.get("word") == b"said"
