"""What a transformer block computes, as an ordered list of operations.

An operation knows its shape, so parameters, FLOPs and bytes follow from it. Rows say over what it runs:
``image`` tokens (sharded over the sequence-parallel ranks), ``text`` tokens (replicated on every rank),
``joint`` (both, in one sequence) or ``condition`` (one row per sample: modulation from the timestep).
Left out: the order of kernels inside one operation, and fusion between operations.
"""

from dataclasses import dataclass
from typing import Literal

Rows = Literal["image", "text", "joint", "condition"]


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix product over rows; `outputs` counts every column of a fused projection."""

    name: str
    inputs: int
    outputs: int
    rows: Rows
    bias: bool = True
    live: float = 0.0
    """Activation elements per image row that are alive while it runs, in all; 0 where that is not told."""
    kept: float = 0.0
    """Elements per own row that stay alive until the forward ends, besides all that `live` tells."""

    @property
    def parameters(self) -> int:
        return sum(self.tensors)

    @property
    def tensors(self) -> tuple[int, ...]:
        """Parameters of the product's weight and of its bias."""
        weight = self.inputs * self.outputs
        return (weight, self.outputs) if self.bias else (weight,)


@dataclass(frozen=True, slots=True)
class Attention:
    """Scaled dot-product attention without mask.

    With keys over ``image`` or ``joint`` rows the sequence is sharded, so Ulysses exchanges heads for tokens
    around it; over ``text`` keys (replicated) each rank attends its own queries.
    """

    name: str
    queries: Rows
    keys: Rows
    heads: int
    head_dim: int
    key_heads: int | None = None
    live: float = 0.0
    """Activation elements per image row that are alive while it runs, in all; 0 where that is not told."""

    @property
    def parameters(self) -> int:
        return 0

    @property
    def tensors(self) -> tuple[int, ...]:
        return ()

    @property
    def width(self) -> int:
        """Columns of the query tensor."""
        return self.heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Columns of the key (and of the value) tensor: fewer than `width` with grouped queries."""
        return (self.key_heads or self.heads) * self.head_dim


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norms, RoPE, modulation, activations, residuals: bound by device memory.

    `elements` is how many elements per row are read plus written; `parameters` counts norm scales, biases and
    modulation tables.
    """

    name: str
    rows: Rows
    elements: float
    parameters: int = 0
    parts: int = 1
    """Tensors that its parameters are in, all of one size."""
    buffers: tuple[int, ...] = ()
    """Bytes of tensors that move with its parameters without being any (rotary tables, in fp32)."""
    whole: bool = False
    """Whether the parameters are the enclosing module's own: on the device for as long as that runs."""
    live: float = 0.0
    """Activation elements per image row that are alive while it runs, in all; 0 where that is not told."""
    kept: float = 0.0
    """Elements per own row that stay alive until the forward ends, besides all that `live` tells."""

    @property
    def tensors(self) -> tuple[int, ...]:
        """Parameters of each of the operation's tensors."""
        return (self.parameters // self.parts,) * self.parts if self.parameters else ()


Operation = Linear | Attention | Elementwise


def parameter_count(operations: tuple[Operation, ...]) -> int:
    """Parameters of a block: the sum over its operations."""
    return sum(operation.parameters for operation in operations)
