"""Memory that a job may plan with."""

import torch

from siglip_study.models.devices import free_bytes


def test_free_memory_counts_what_is_cached_and_the_limit(monkeypatch):
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * gib, 80 * gib))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 30 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20 * gib)
    device = torch.device("cuda")
    assert free_bytes(device, None) == 50 * gib
    assert free_bytes(device, 24) == 4 * gib
    assert free_bytes(device, 500) == 50 * gib
    assert free_bytes(device, 10) == 0
