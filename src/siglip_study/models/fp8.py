"""Products of the language model's frozen linear layers in FP8, forward and backward.

Both factors are e4m3 (Micikevicius et al. 2022), with a scale for each row that is summed over:
a token's activations, an output's weights and, in the backward pass, a token's gradients and an
input's weights. Sums are fp32. Attention, norms, adapters and head keep the model's precision.
Twice as many FLOP/s as bf16 on a GPU of compute capability 9; on the CPU the same numbers, slowly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.base.errors import StudyError

E4M3 = torch.float8_e4m3fn
#: Largest magnitude in e4m3.
LARGEST = 448.0
#: Compute capability from which PyTorch's product with a scale a row is used.
CAPABILITY = (9, 0)
#: Both sides of a weight must be a multiple of this.
MULTIPLE = 16


def why_no_fp8(device: torch.device) -> str | None:
    """What ``llm.matmul: fp8`` lacks on this device, as a sentence; None: nothing."""
    found = "the CPU"
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if torch.version.cuda is not None and capability >= CAPABILITY:
            return None
        found = f"{torch.cuda.get_device_name(device)} ({capability[0]}.{capability[1]})"
    wanted = ".".join(map(str, CAPABILITY))
    return (
        f"llm.matmul is fp8, and the device is {found}; expected an NVIDIA GPU of compute "
        f"capability {wanted} or newer (H100, H200), or llm.matmul: bf16."
    )


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``[N, K]`` → e4m3 ``[N, K]`` and fp32 scales ``[N, 1]``, whose product is about ``x``.

    The largest magnitude of a row becomes :data:`LARGEST`, so nothing overflows.
    """
    scale = x.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-30) / LARGEST
    # The product may round past the largest value, which a cast would turn into NaN.
    return (x.float() * scale.reciprocal()).clamp(-LARGEST, LARGEST).to(E4M3), scale


class Fp8Linear(nn.Linear):
    """A frozen linear layer that multiplies in e4m3.

    It keeps its weight twice, by rows for the forward pass and by columns for the backward one: a
    GPU reads both factors along the sum. Together they take as much memory as in bf16.

    Raises:
        StudyError: a side of the weight is no multiple of :data:`MULTIPLE`.
    """

    rows: Tensor
    row_scales: Tensor
    columns: Tensor
    column_scales: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        if self.out_features % MULTIPLE or self.in_features % MULTIPLE:
            raise StudyError(
                f"llm.matmul is fp8, and a linear layer of the LLM is {self.in_features} → "
                f"{self.out_features}; expected multiples of {MULTIPLE}."
            )
        self.dtype = weight.dtype
        for name, factor in (("row", weight), ("column", weight.t())):
            packed, scales = quantize_rows(factor.contiguous())
            self.register_buffer(f"{name}s", packed)
            self.register_buffer(f"{name}_scales", scales.t().contiguous())
        kept = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.register_parameter("bias", kept)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """``[out, in]``: what the forward pass multiplies by, in the precision it came in."""
        return (self.rows.float() * self.row_scales.t()).to(self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``[…, in]`` → ``[…, out]``."""
        flat = x.to(self.dtype).flatten(0, -2)
        packed, scales = quantize_rows(flat.detach())
        weights = self.rows, self.row_scales, self.columns, self.column_scales
        product: Tensor = _linear(flat, packed, scales, *weights)
        if self.bias is not None:
            product = product + self.bias
        return product.unflatten(0, x.shape[:-1])


# Operators of their own: a compilation takes them as they are, and fuses the quantisation before
# them with what makes its input.


def _multiply(x: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor) -> Tensor:
    if x.is_cuda:
        return torch._scaled_mm(
            x, weight.t(), scales, weight_scales, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return (x.float() * scales) @ (weight.float().t() * weight_scales)


@torch.library.custom_op("siglip_study::fp8_product", mutates_args=())
def _product(
    x: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, dtype: torch.dtype
) -> Tensor:
    return _multiply(x, scales, weight, weight_scales).to(dtype)


def _product_shape(
    x: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, dtype: torch.dtype
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], dtype=dtype)


@torch.library.custom_op("siglip_study::fp8_linear", mutates_args=())
def _linear(
    x: Tensor,  # of which ``packed`` was made: it has the gradient
    packed: Tensor,
    scales: Tensor,
    rows: Tensor,
    row_scales: Tensor,
    columns: Tensor,
    column_scales: Tensor,
) -> Tensor:
    return _multiply(packed, scales, rows, row_scales).to(x.dtype)


def _linear_shape(
    x: Tensor, packed: Tensor, scales: Tensor, rows: Tensor, *weights: Tensor
) -> Tensor:
    return x.new_empty(x.shape[0], rows.shape[0])


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[-2:])


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    packed, scales = quantize_rows(gradient.contiguous())
    of_x: Tensor = _product(packed, scales, *ctx.saved_tensors, gradient.dtype)
    return (of_x, None, None, None, None, None, None)


_product.register_fake(_product_shape)
_linear.register_fake(_linear_shape)
_linear.register_autograd(_gradient, setup_context=_keep)
