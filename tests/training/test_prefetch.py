"""Batches read ahead: the same ones in the same order, errors where they belong, no thread left."""

import threading

import pytest
import torch

from siglip_study.runs.clips import prefetched

CPU = torch.device("cpu")


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_batches_come_in_order_and_unchanged():
    made = [torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    with prefetched(range(20), made.__getitem__, CPU) as batches:
        got = list(batches)
    assert all(torch.equal(a, b) for a, b in zip(got, made, strict=True))
    assert not threads()


def test_reading_goes_no_further_ahead_than_its_depth():
    read, gate = [], threading.Event()

    def slow(item):
        read.append(item)
        if item == 2:
            gate.set()
        return torch.tensor(item)

    with prefetched(range(10), slow, CPU, depth=2) as batches:
        assert next(batches) == 0
        assert gate.wait(10)  # one used, two ahead: items 0, 1, 2
        assert read == [0, 1, 2]
    assert len(read) <= 4 and not threads()


def test_an_error_is_raised_where_its_batch_is_used():
    def read(item):
        if item == 2:
            raise OSError("broken shard")
        return torch.tensor(item)

    seen = []
    with pytest.raises(OSError, match="broken shard"), prefetched(range(5), read, CPU) as batches:
        for batch in batches:
            seen.append(int(batch))
    assert seen == [0, 1] and not threads()


def test_leaving_early_ends_the_thread():
    class Left(Exception):
        pass

    with pytest.raises(Left), prefetched(range(1000), torch.tensor, CPU) as batches:
        next(batches)
        raise Left
    assert not threads()


def test_reading_ahead_draws_nothing_from_the_global_seed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with prefetched(range(4), torch.tensor, CPU) as batches:
        list(batches)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_arrive_whole_on_a_gpu_at_work():
    made = [torch.full((512, 1024), float(i)) for i in range(16)]
    device = torch.device("cuda")
    work = torch.randn(4096, 4096, device=device)
    sums = []
    with prefetched(range(16), made.__getitem__, device) as batches:
        for batch in batches:
            work = work @ work / work.norm()
            sums.append(batch.mean())
    assert torch.stack(sums).tolist() == list(range(16))
