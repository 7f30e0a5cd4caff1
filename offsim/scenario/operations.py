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

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


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

    @property
    def parameters(self) -> int:
        return 0

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


Operation = Linear | Attention | Elementwise


def parameter_count(operations: tuple[Operation, ...]) -> int:
    """Parameters of a block: the sum over its operations."""
    return sum(operation.parameters for operation in operations)
