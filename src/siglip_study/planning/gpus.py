"""GPUs by name: what their makers state, and what of it a study is assumed to reach."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_study.base.errors import StudyError

#: Share of the stated matrix rate that training and encoding are assumed to reach.
COMPUTE_EFFICIENCY = 0.6
#: Share of the stated bandwidth that decoding is assumed to reach.
BANDWIDTH_EFFICIENCY = 0.6


@dataclass(frozen=True)
class Gpu:
    """A GPU: dense bf16 rate (TFLOP/s), bandwidth (GB/s) and memory (GiB) as PyTorch sees it.

    Rates are those of the data sheets, without sparsity and with fp32 accumulation.
    """

    name: str
    tflops: float
    gb_per_s: float
    gib: float

    def seconds(self, flops: float, traffic: float = 0.0) -> float:
        """Time of work bound by arithmetic (FLOP) or by memory traffic (bytes), the longer one."""
        compute = flops / (self.tflops * 1e12 * COMPUTE_EFFICIENCY)
        memory = traffic / (self.gb_per_s * 1e9 * BANDWIDTH_EFFICIENCY)
        return max(compute, memory)


GPUS: dict[str, Gpu] = {
    "h200": Gpu("H200", 989, 4800, 139.8),
    "h100": Gpu("H100 SXM 80 GB", 989, 3350, 79.1),
    "a100-80": Gpu("A100 80 GB", 312, 2039, 79.2),
    "a100-40": Gpu("A100 40 GB", 312, 1555, 39.4),
    "l40s": Gpu("L40S", 362, 864, 44.4),
    "rtx4090": Gpu("RTX 4090", 165, 1008, 23.5),
    "rtx3090": Gpu("RTX 3090", 71, 936, 23.6),
    "rtx4070": Gpu("RTX 4070 12 GB", 58, 504, 11.6),
}
# A part of the name that PyTorch gives a device → its key above; the first that is found counts.
_MARKS = {
    "H200": "h200",
    "H100": "h100",
    "A100-SXM4-80GB": "a100-80",
    "A100 80GB": "a100-80",
    "A100-SXM4-40GB": "a100-40",
    "A100-PCIE-40GB": "a100-40",
    "L40S": "l40s",
    "4090": "rtx4090",
    "3090": "rtx3090",
    "4070": "rtx4070",
}


def named_gpu(key: str) -> Gpu:
    """The GPU under this key.

    Raises:
        StudyError: there is none.
    """
    if key not in GPUS:
        raise StudyError(f"GPU '{key}' is unknown; expected one of {', '.join(GPUS)}.")
    return GPUS[key]


def gpu_of_device(device_name: str) -> Gpu | None:
    """The GPU that a CUDA device of this name is, or None if it is not in the table."""
    return next((GPUS[key] for mark, key in _MARKS.items() if mark in device_name), None)
