"""How the GPUs of a node are wired: how many, their PCIe links, switches and sockets, NVLink, and how NCCL talks.

Topology is a tree per socket: GPU - PCIe link - (switch - uplink) - host memory, plus NVLink between GPUs.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from .dimensions import DuplexQuantity, LinkCostQuantity, RateCurve, RateQuantity, TimeQuantity, WeightQuantity
from .interference import Interference
from .quantity import Quantity

GpuIndex = Annotated[int, Meta(ge=0, le=1023)]
GpuIndices = Annotated[tuple[GpuIndex, ...], Meta(min_length=1, max_length=1024)]
Transport = Literal["nvlink", "pcie", "host-memory"]


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
    interference: Interference = Interference()
    """How much longer a call takes beside copies, and beside the other kind of collective."""
    link_cost: LinkCostQuantity = field(default_factory=unknown_link_cost)
    """What a byte that kernels read over PCIe takes of the link towards the GPU, in bytes of a copy: small requests and
    polling fill it beside the payload. 1.9 for an all-gather on 2 x H100 (24.7 GB/s of copies beside 15.4)."""


class Collectives(Struct, frozen=True, forbid_unknown_fields=True):
    """How NCCL talks on this node."""

    transport: Transport
    """nvlink. pcie: peer to peer below a common switch, else host memory (NCCL's rule). host-memory."""
    all_to_all: CollectiveKind
    all_gather: CollectiveKind


class Wiring(Struct, frozen=True, forbid_unknown_fields=True):
    """The equal GPUs of a machine and what connects them to host memory and to each other."""

    gpus: Annotated[int, Meta(ge=1, le=1024)]
    sockets: Annotated[tuple[GpuIndices, ...], Meta(min_length=1)]
    """The GPUs of each socket."""
    pcie: PCIe
    title: str = ""
    """What it is, in words; of a part of the catalogue."""
    switches: tuple[Switch, ...] = ()
    nvlink: NVLink | None = None
    collectives: Collectives | None = None

    def __post_init__(self) -> None:
        _check_partition("sockets", self.sockets, self.gpus, complete=True)
        _check_partition("switches", tuple(s.gpus for s in self.switches), self.gpus, complete=False)
        if self.collectives is not None and self.collectives.transport == "nvlink" and self.nvlink is None:
            raise ValueError("collectives.transport='nvlink': needs a table nvlink")
        if self.gpus > 1 and self.collectives is None:
            raise ValueError(f"collectives: missing; {self.gpus} gpus need it")

    @property
    def exchanges_in_host_memory(self) -> bool:
        """Whether collectives may go through host memory."""
        return self.collectives is not None and self.collectives.transport != "nvlink"


def _check_partition(key: str, groups: tuple[tuple[int, ...], ...], gpus: int, *, complete: bool) -> None:
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
