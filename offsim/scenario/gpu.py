"""One accelerator: memory, kernel rates, what slows its kernels, and what its power limit does to the clock."""

import re
from typing import Literal

from msgspec import Struct, field

from .dimensions import (
    ByteQuantity,
    EnergyQuantity,
    ExponentQuantity,
    FlopsCurve,
    KneeQuantity,
    MemoryQuantity,
    PowerQuantity,
    RateCurve,
    RateQuantity,
    TimeQuantity,
)
from .interference import KernelInterference
from .quantity import Curve
from .units import Text
from .usual import usual
from .wording import LONGEST_VALUE, cut

PRODUCT, ATTENTION = re.compile(r"\d+x\d+"), re.compile(r"\d+x\d+(x\d+)?(-ragged)?")
KernelClass = Literal["gemm", "attention", "elementwise", "relayout"]


def usual_unpacking() -> Curve:
    """How fast packed weights become bf16 where no probe has told."""
    return usual().gpu.unpack


class Energy(Struct, frozen=True, forbid_unknown_fields=True):
    """What work costs at full clock, above idle."""

    gemm: EnergyQuantity
    """Energy of a FLOP of a matrix product."""
    attention: EnergyQuantity
    """Energy of a FLOP of attention."""
    byte: EnergyQuantity
    """Energy of a byte that a kernel reads or writes."""
    relayout: EnergyQuantity | None = None
    """Energy of a byte of a permuting copy; where unknown, that of any kernel's."""

    @property
    def of_relayout(self) -> float:
        """Joules per byte of a permuting copy."""
        return (self.relayout or self.byte).value


class Knee(Struct, frozen=True, forbid_unknown_fields=True):
    """The clock, as a share of the highest, below which kernels of a class slow and draw less; others never do."""

    gemm: KneeQuantity
    attention: KneeQuantity
    relayout: KneeQuantity


class Clock(Struct, frozen=True, forbid_unknown_fields=True):
    """What the power limit does to the clock: see offsim.engine.clock."""

    limit: PowerQuantity
    idle: PowerQuantity
    """Drawn whatever runs, while the chip is in use."""
    window: TimeQuantity
    """Time over which the demand is averaged before the clock follows."""
    power_exponent: ExponentQuantity
    """Below its knee, what a kernel draws above idle grows with the clock to this power."""
    energy: Energy
    knee: Knee
    collective: PowerQuantity
    """Drawn while a collective's kernels run."""
    copy: PowerQuantity
    """Drawn while a copy runs, in each direction."""
    burst: PowerQuantity | None = None
    """What may be drawn until the mean over `averaging` has come to the limit; where unknown, the limit."""
    averaging: TimeQuantity | None = None
    """Time over which what is drawn is averaged, for the limit to hold; needed with `burst`."""

    def __post_init__(self) -> None:
        if self.idle.value >= self.limit.value:
            raise ValueError(f"idle={self.idle.value}: must be below limit={self.limit.value}")
        if self.window.value <= 0:
            raise ValueError("window: must be above 0")
        if self.averaging is not None and self.averaging.value <= 0:
            raise ValueError("averaging: must be above 0")
        if self.burst is not None and self.averaging is None:
            raise ValueError("averaging: needed with burst")
        if self.burst is not None and self.burst.value < self.limit.value:
            raise ValueError(f"burst={self.burst.value}: must not be below limit={self.limit.value}")


class GPU(Struct, frozen=True, forbid_unknown_fields=True):
    """One accelerator."""

    name: Text
    memory: MemoryQuantity
    """Device memory that programs can have (what cudaMemGetInfo calls total)."""
    context: ByteQuantity
    """CUDA context, NCCL buffers and library workspaces, outside the framework's allocator."""
    gemm: FlopsCurve
    """Sustained dense matrix rate in bf16, by rows of the left operand."""
    attention: dict[str, FlopsCurve]
    """Sustained attention rate by backend, each by sequence length; needs a `default`."""
    memory_bandwidth: RateQuantity
    """Device memory rate of elementwise kernels, bytes read plus written."""
    relayout_bandwidth: RateQuantity | None = None
    """Device memory rate of permuting copies around an all-to-all; where unknown, that of elementwise kernels."""
    gemm_shapes: dict[str, FlopsCurve] = {}
    """Measured products by `inputs x outputs` (5120x15360), by rows; others go by `gemm`."""
    attention_shapes: dict[str, FlopsCurve] = {}
    """Measured attention: `heads x head_dim` (40x128) by keys where queries = keys; with a third number, the keys
    (40x128x512), by queries. With `-ragged` behind: of key counts that are no multiple of 128."""
    elementwise: RateCurve | None = None
    """Elementwise kernels by the bytes that they move; else `memory_bandwidth`."""
    relayout: RateCurve | None = None
    """Relayouts by the bytes that they move; else `relayout_bandwidth`."""
    unpack: RateCurve = field(default_factory=usual_unpacking)
    """Kernels that make bf16 of packed weights, bytes read plus written, by the bits that a value is packed in. None is
    faster than an elementwise kernel."""
    workspace: ByteQuantity | None = None
    """What libraries hold of the framework's memory (cuBLAS): counted as allocated."""
    interference: KernelInterference = KernelInterference()
    """How much longer kernels take beside copies and collectives."""
    clock: Clock | None = None
    """What the power limit does to the clock; without it, every kernel runs as its table says."""

    def __post_init__(self) -> None:
        if "default" not in self.attention:
            raise ValueError("attention.default: missing; every node needs this backend")
        for table, pattern in ((self.gemm_shapes, PRODUCT), (self.attention_shapes, ATTENTION)):
            wrong = next((key for key in table if not pattern.fullmatch(key)), None)
            if wrong is not None:
                key = cut(wrong, LONGEST_VALUE)
                raise ValueError(f"{key}: expected numbers with x between them, as 5120x15360, 40x128 or 40x128x512")
        if self.context.value >= self.memory.value:
            raise ValueError("context: leaves nothing of the GPU's memory")
