"""A machine: GPUs, the links between them and host memory, and what its software costs.

Topology is a tree per socket: GPU - PCIe link - (switch - uplink) - host memory, plus NVLink between GPUs.
Rates are what a copy engine or a collective reaches alone; how flows share them is the engine's business.
Left out: storage, other nodes, the CPU's own memory traffic.
"""

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from .quantity import Curve, Quantity
from .units import Name, Text, dimension, within
from .wording import LONGEST_VALUE, cut

ByteQuantity = Annotated[Quantity, dimension("bytes")]
MemoryQuantity = Annotated[Quantity, dimension("bytes"), within(Meta(gt=0, le=1e18))]
RateQuantity = Annotated[Quantity, dimension("rate")]
TimeQuantity = Annotated[Quantity, dimension("time")]
DuplexQuantity = Annotated[Quantity, within(Meta(ge=1, le=2))]
WeightQuantity = Annotated[Quantity, within(Meta(gt=0, le=1000))]
LinkCostQuantity = Annotated[Quantity, within(Meta(ge=1, le=10))]
SlowdownQuantity = Annotated[Quantity, within(Meta(ge=0, le=1000))]
PowerQuantity = Annotated[Quantity, dimension("power")]
EnergyQuantity = Annotated[Quantity, dimension("energy")]
KneeQuantity = Annotated[Quantity, within(Meta(ge=0.01, le=1))]
ExponentQuantity = Annotated[Quantity, within(Meta(ge=1, le=10))]
RateCurve = Annotated[Curve, dimension("rate")]
FlopsCurve = Annotated[Curve, dimension("flops")]

PRODUCT, ATTENTION = re.compile(r"\d+x\d+"), re.compile(r"\d+x\d+(x\d+)?(-ragged)?")
GpuIndex = Annotated[int, Meta(ge=0, le=1023)]
GpuIndices = Annotated[tuple[GpuIndex, ...], Meta(min_length=1, max_length=1024)]
KernelClass = Literal["gemm", "attention", "elementwise", "relayout"]
Transport = Literal["nvlink", "pcie", "host-memory"]

UNPACKING = Curve(
    ((4.0, 8.47e11), (8.0, 1.13e12)),
    "published",
    "torch's copies to bf16 on one of 2 x H100 SXM (calibration/nodes/h100-x2-e-nvlink)",
)
"""How fast packed weights become bf16 where no probe has told: 703 MB of them are read as 351 in 0.93 ms (8 bits)."""


class Energy(Struct, frozen=True, forbid_unknown_fields=True):
    """What work costs at full clock, above idle."""

    gemm: EnergyQuantity
    """Per FLOP."""
    attention: EnergyQuantity
    """Per FLOP."""
    byte: EnergyQuantity
    """Per byte that a kernel reads or writes."""
    relayout: EnergyQuantity | None = None
    """Per byte of a permuting copy; where unknown, as of any kernel."""

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
    """The same of permuting copies around an all-to-all; where unknown, as elementwise kernels."""
    gemm_shapes: dict[str, FlopsCurve] = {}
    """Measured products by `inputs x outputs` (5120x15360), by rows; others go by `gemm`."""
    attention_shapes: dict[str, FlopsCurve] = {}
    """Measured attention: `heads x head_dim` (40x128) by keys where queries = keys; with a third number, the keys
    (40x128x512), by queries. With `-ragged` behind: of key counts that are no multiple of 128."""
    elementwise: RateCurve | None = None
    """Elementwise kernels by the bytes that they move; else `memory_bandwidth`."""
    relayout: RateCurve | None = None
    """Relayouts by the bytes that they move; else `relayout_bandwidth`."""
    unpack: RateCurve = UNPACKING
    """Kernels that make bf16 of packed weights, bytes read plus written, by the bits that a value is packed in. None is
    faster than an elementwise kernel."""
    workspace: ByteQuantity | None = None
    """What libraries hold of the framework's memory (cuBLAS): counted as allocated."""
    clock: Clock | None = None
    """Without it, every kernel runs as its table says."""

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


class PCIe(Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU's own link."""

    h2d: RateQuantity
    d2h: RateQuantity
    duplex: DuplexQuantity
    """gamma: x_down / h2d + x_up / d2h <= gamma; 2 is ideal duplex, 1 none."""
    latency: TimeQuantity
    """Fixed part of one copy on the device."""
    further_call: TimeQuantity | None = None
    """What each further call of one transfer adds; without it, they follow each other without gaps."""


class Switch(Struct, frozen=True, forbid_unknown_fields=True):
    """A PCIe switch (or root complex) whose GPUs share one uplink."""

    gpus: GpuIndices
    h2d: RateQuantity
    d2h: RateQuantity


class Socket(Struct, frozen=True, forbid_unknown_fields=True):
    """Host memory of one NUMA node and the GPUs attached to it."""

    gpus: GpuIndices
    read: RateQuantity
    """What all devices together can read (H2D and the receive side of host-memory collectives)."""
    write: RateQuantity
    total: RateQuantity


class Host(Struct, frozen=True, forbid_unknown_fields=True):
    """Host memory and how it is pinned and paged."""

    memory: MemoryQuantity
    sockets: Annotated[tuple[Socket, ...], Meta(min_length=1)]
    pageable_h2d: RateQuantity
    """Pageable source that was touched before."""
    pageable_d2h: RateQuantity
    """Pageable destination that was touched before."""
    fresh_d2h: RateQuantity
    """Pageable destination never touched: bound by page faults."""
    cross_socket: RateQuantity | None = None
    """Each direction between two sockets, for host-memory collectives."""
    pinned_rounding: Literal["power-of-two", "none"] = "power-of-two"
    """torch's CachingHostAllocator rounds each pinned block up to a power of two."""


class NVLink(Struct, frozen=True, forbid_unknown_fields=True):
    """One GPU's NVLink side."""

    send: RateQuantity
    receive: RateQuantity


def unknown_link_cost() -> Quantity:
    """The link cost of a kind of collective where nothing is known of it: a value of its own for each kind."""
    return Quantity(1.0, "guess", "no pair with copies was told from payload alone")


class CollectiveKind(Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of collective over the node's transport."""

    rate: RateCurve
    """What a rank sends (and receives) alone, by the bytes it sends to others."""
    latency: TimeQuantity
    weight: WeightQuantity
    """Share against a copy engine (weight 1) on a link that both use, at two ranks."""
    link_cost: LinkCostQuantity = field(default_factory=unknown_link_cost)
    """What a byte that kernels read over PCIe takes of the link towards the GPU, in bytes of a copy: small requests and
    polling fill it beside the payload. 1.9 for an all-gather on 2 x H100 (24.7 GB/s of copies beside 15.4)."""


class Collectives(Struct, frozen=True, forbid_unknown_fields=True):
    """How NCCL talks on this node."""

    transport: Transport
    """nvlink. pcie: peer to peer below a common switch, else host memory (NCCL's rule). host-memory."""
    all_to_all: CollectiveKind
    all_gather: CollectiveKind


class Overheads(Struct, frozen=True, forbid_unknown_fields=True):
    """What one command costs the host thread."""

    launch: TimeQuantity
    copy: TimeQuantity
    event: TimeQuantity
    collective: TimeQuantity
    allocation: TimeQuantity
    synchronize: TimeQuantity
    queue_depth: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Commands that may wait in a stream before the host blocks."""


class Interference(Struct, frozen=True, forbid_unknown_fields=True):
    """How much longer a kernel or collective takes while something else is active on its GPU.

    Of two collectives that run at once each is named: their kernels share what NVLink, or the way to host memory, lets
    pass.
    """

    victim: KernelClass | Literal["all-to-all", "all-gather"]
    aggressor: Literal["H2D", "D2H", "collective", "all-to-all", "all-gather"]
    slowdown: SlowdownQuantity
    """Relative: 0.09 makes it 9 % longer."""

    def __post_init__(self) -> None:
        others = {"all-to-all": "all-gather", "all-gather": "all-to-all"}
        allowed = ("H2D", "D2H", others.get(self.victim, "collective"))
        if self.aggressor not in allowed:
            raise ValueError(
                f"interference: victim {self.victim!r} cannot have aggressor {self.aggressor!r}; use one of "
                f"{', '.join(allowed)}"
            )


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine of equal GPUs."""

    name: Name
    title: Text
    gpus: Annotated[int, Meta(ge=1, le=1024)]
    gpu: GPU
    pcie: PCIe
    host: Host
    overheads: Overheads
    switches: tuple[Switch, ...] = ()
    nvlink: NVLink | None = None
    collectives: Collectives | None = None
    interference: tuple[Interference, ...] = ()
    fingerprint: str = ""
    """Identity of the machine that a calibrated profile was measured on."""
    notes: str = ""

    def __post_init__(self) -> None:
        _check_partition("host.sockets", [s.gpus for s in self.host.sockets], self.gpus, complete=True)
        _check_partition("switches", [s.gpus for s in self.switches], self.gpus, complete=False)
        if self.collectives is not None and self.collectives.transport == "nvlink" and self.nvlink is None:
            raise ValueError("collectives.transport='nvlink': needs a table nvlink")
        if len(self.host.sockets) > 1 and self.host.cross_socket is None and self._crosses_host():
            raise ValueError("two host.sockets and collectives through host memory need host.cross_socket_GBps")
        if self.gpus > 1 and self.collectives is None:
            raise ValueError(f"collectives: missing; {self.gpus} gpus need it")
        pairs = [(entry.victim, entry.aggressor) for entry in self.interference]
        twice = next((pair for pair in pairs if pairs.count(pair) > 1), None)
        if twice is not None:
            raise ValueError(f"interference: victim {twice[0]!r} with aggressor {twice[1]!r} is given twice")

    def _crosses_host(self) -> bool:
        return self.collectives is not None and self.collectives.transport != "nvlink"


def _check_partition(key: str, groups: list[tuple[int, ...]], gpus: int, *, complete: bool) -> None:
    """Each GPU in at most one group (exactly one if `complete`), and no GPU that isn't there."""
    listed = [gpu for group in groups for gpu in group]
    for gpu in listed:
        if not 0 <= gpu < gpus:
            raise ValueError(f"{key}: names gpu {gpu}, but the node has gpus 0..{gpus - 1}")
        if listed.count(gpu) > 1:
            raise ValueError(f"{key}: names gpu {gpu} twice")
    if complete and len(listed) < gpus:
        missing = next(gpu for gpu in range(gpus) if gpu not in listed)
        raise ValueError(f"{key}: leaves out gpu {missing}")
