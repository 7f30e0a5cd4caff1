"""The host of a node: its memory by socket, pinned and pageable copies, and the cost of issuing commands."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .dimensions import MemoryQuantity, RateQuantity, TimeQuantity


class Socket(Struct, frozen=True, forbid_unknown_fields=True):
    """Host memory of one NUMA node."""

    read: RateQuantity
    """What all devices together can read (H2D and the receive side of host-memory collectives)."""
    write: RateQuantity
    total: RateQuantity


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


class Host(Struct, frozen=True, forbid_unknown_fields=True):
    """Host memory, how it is pinned and paged, and what the CPU takes to issue commands."""

    memory: MemoryQuantity
    sockets: Annotated[tuple[Socket, ...], Meta(min_length=1)]
    """The memory of each socket, in the order of `wiring.sockets`; one entry stands for all of them."""
    pageable_h2d: RateQuantity
    """Pageable source that was touched before."""
    pageable_d2h: RateQuantity
    """Pageable destination that was touched before."""
    fresh_d2h: RateQuantity
    """Pageable destination never touched: bound by page faults."""
    overheads: Overheads
    title: str = ""
    """What it is, in words; of a part of the catalogue."""
    cross_socket: RateQuantity | None = None
    """Each direction between two sockets, for host-memory collectives."""
    pinned_rounding: Literal["power-of-two", "none"] = "power-of-two"
    """torch's CachingHostAllocator rounds each pinned block up to a power of two."""

    def socket(self, number: int) -> Socket:
        """The memory of one of the node's sockets."""
        return self.sockets[number if len(self.sockets) > 1 else 0]
