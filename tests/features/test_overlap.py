from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from siglip_study.features.pipeline import Overlap

CPU = torch.device("cpu")


class FakeStream:
    def __init__(self, device: Any = None) -> None:
        self.waited: list[Any] = []

    def record_event(self) -> "FakeEvent":
        return FakeEvent()

    def wait_event(self, event: Any) -> None:
        self.waited.append(event)


class FakeEvent:
    """An event of a GPU that needs a quarter of a second a batch."""

    def __init__(self, **options: bool) -> None:
        self.synchronized = False

    def record(self, stream: FakeStream) -> None:
        pass

    def synchronize(self) -> None:
        self.synchronized = True

    def elapsed_time(self, other: "FakeEvent") -> float:
        return 250.0


@pytest.fixture(params=["cpu", "cuda"])
def overlap(request, monkeypatch):
    """On the CPU, and through the steps of a GPU with stand-ins for its streams."""
    if request.param == "cuda":
        whole, to = torch.empty, Tensor.to
        monkeypatch.setattr(torch.cuda, "Stream", FakeStream)
        monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
        monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream())
        monkeypatch.setattr(
            torch, "empty", lambda *a, pin_memory=False, **options: whole(*a, **options)
        )
        monkeypatch.setattr(Tensor, "to", lambda self, *a, **options: to(self, CPU))
        monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: None)
    return Overlap(torch.device(request.param))


def batches(n: int, error: Exception | None = None) -> Iterator[Tensor]:
    for i in range(n):
        yield torch.full((2, 3), float(i))
    if error is not None:
        raise error


def test_results_come_in_order(overlap):
    found = list(overlap.encode(batches(5), lambda batch: batch * 10))
    assert [int(result[0, 0]) for result, _ in found] == [0, 10, 20, 30, 40]
    assert all(finite.tolist() == [True, True] for _, finite in found)
    assert overlap.clips == 10
    assert list(overlap.encode(batches(0), lambda batch: batch)) == []


def test_a_clip_whose_numbers_are_not_finite_is_marked(overlap):
    bad = torch.tensor([[1.0, 2.0], [torch.nan, 0.0], [0.0, -torch.inf]])
    ((_, finite),) = overlap.encode([bad], lambda batch: batch)
    assert finite.tolist() == [True, False, False]


@pytest.mark.parametrize("where", ["decoding", "encoding"])
def test_what_was_done_before_an_error_is_given_first(overlap, where):
    def encode(batch: Tensor) -> Tensor:
        if where == "encoding" and batch[0, 0] == 3:
            raise ValueError("bad")
        return batch

    source = batches(3, ValueError("bad")) if where == "decoding" else batches(9)
    given = []
    with pytest.raises(ValueError, match="bad"):
        for result, _ in overlap.encode(source, encode):
            given.append(int(result[0, 0]))
    assert given == [0, 1, 2]


def test_one_batch_is_worked_on_while_the_next_is_sent(monkeypatch):
    sent: list[int] = []

    def encode(batch: Tensor) -> Tensor:
        sent.append(int(batch[0, 0]))
        return batch

    results = Overlap(CPU).encode(batches(9), encode)
    next(results)
    assert sent == [0, 1]
    next(results)
    assert sent == [0, 1, 2]


@pytest.mark.parametrize(
    ("busy", "decoding", "writing", "bound"),
    [(9.5, 3, 3, "the encoder"), (4, 5, 1, "decoding"), (4, 1, 5, "the disk")],
)
def test_the_line_names_what_bounds_the_job(busy, decoding, writing, bound):
    account = Overlap(CPU, 865, 10.0, busy, decoding, writing)
    assert str(account) == (
        f"865 clips in 10.0 s, 86.5 clips/s, encoder busy {busy * 10:.0f} %, bound by {bound}"
    )
    assert str(Overlap(CPU)) == "no clip was left to encode"


def test_a_gpus_own_clock_counts(overlap):
    list(overlap.encode(batches(4), lambda batch: batch))
    with overlap.writing():
        pass
    if overlap.device.type == "cuda":
        assert overlap.busy_s == 1.0
    assert overlap.finish().wall_s > 0 and 0 <= overlap.busy <= 1
