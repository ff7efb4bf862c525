"""What every projector is: ``[B, F, P, V]`` vision features in, ``[B, T, L]`` tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from siglip_study.base.errors import StudyError

EMBEDDING_STD = 0.02
"""Standard deviation at initialisation of learned queries and position embeddings."""


@dataclass(frozen=True)
class FeatureShape:
    """What a clip's features look like: F frames of a grid of patches, each a vector of width V.

    Raises:
        StudyError: a size is below 1, or the grid has not two sides.
    """

    frames: int
    #: rows and columns of patches, which are in row-major order
    grid: tuple[int, int]
    dim: int

    def __post_init__(self) -> None:
        if len(self.grid) != 2 or min(self.frames, self.dim, *self.grid) < 1:
            raise StudyError(
                f"features of {self.frames} frames, grid {self.grid} and width {self.dim}; "
                "expected (rows, columns) and each number at least 1."
            )

    @property
    def patches(self) -> int:
        """P, the patches of a frame."""
        return self.grid[0] * self.grid[1]


class Projector(nn.Module, ABC):
    """Base of all projectors.

    A subclass takes the two arguments below by position, its own options as keyword-only
    arguments with type annotations (these are the options a config may set), and implements
    :meth:`project` and :meth:`tokens_per_video`.

    A submodule that attends to the video and is no ``nn.MultiheadAttention`` has a method
    ``attention_weights``: from the inputs of its ``forward`` to weights ``[N, heads, Q, K]``. The
    diagnosis of a collapse asks for them; training never does.

    Letters used in shapes: B clips, F frames, P patches of a frame in row-major order of the
    grid, V vision width, N tokens of a frame, T tokens of a clip, L width of the language model.

    Args:
        shape: of the features it is built for. Only projectors that learn something per frame are
            bound to its F; the others take any number of frames.
        llm_dim: L.
    """

    embeddings: ClassVar[tuple[str, ...]] = ()
    """Names of learned queries, latents and position embeddings: no weight decay on them."""

    per_frame: bool = True
    """Whether frames are projected one by one; tokens are then frame-major (frame 0 first)."""

    def __init__(self, shape: FeatureShape, llm_dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.llm_dim = llm_dim
        self.require(llm_dim >= 1, f"llm_dim is {llm_dim}; expected at least 1")

    def forward(self, features: Tensor) -> Tensor:
        """Project a batch of clips: ``[B, F, P, V]`` → ``[B, T, L]``.

        Features are cast to the dtype of the weights first (the feature store holds bf16).

        Raises:
            StudyError: the shape of the input is not what the projector was built for.
        """
        expected = (self.shape.patches, self.shape.dim)
        if features.dim() != 4 or features.shape[2:] != expected:
            raise StudyError(
                f"projector {type(self).__name__}: features have shape {list(features.shape)}; "
                f"expected [clips, frames, {expected[0]}, {expected[1]}]."
            )
        parameter = next(self.parameters(), None)
        return self.project(features if parameter is None else features.to(parameter.dtype))

    @abstractmethod
    def project(self, features: Tensor) -> Tensor:
        """Do the work of :meth:`forward` on features whose shape and dtype are checked."""

    @abstractmethod
    def tokens_per_video(self, frames: int) -> int:
        """T of a clip of ``frames`` frames."""

    def n_parameters(self) -> int:
        """Exact number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def no_decay_parameters(self) -> set[str]:
        """Names of biases, norm scales (one-dimensional tensors) and :attr:`embeddings`."""
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.dim() <= 1 or name in self.embeddings
        }

    def require_positive(self, **sizes: int) -> None:
        """Raise a StudyError that lists all ``sizes`` unless each can be that of a projector."""
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        self.require(min(sizes.values()) >= 1, f"{listed}; expected each at least 1")
        # Far more layers would take minutes to build, before anything can say what they cost.
        self.require(sizes.get("depth", 1) <= 1000, f"{listed}; expected a depth of at most 1000")

    def require(self, condition: bool, message: str) -> None:
        """Raise a StudyError that names this projector unless ``condition`` holds."""
        if not condition:
            raise StudyError(f"projector {type(self).__name__}: {message}.")


def learned_embedding(*shape: int, std: float = EMBEDDING_STD) -> nn.Parameter:
    """A parameter of ``shape`` drawn from N(0, std²)."""
    return nn.Parameter(torch.randn(*shape) * std)
