"""A machine is parts: a GPU, a host and the wiring between them.

Rates are what a copy engine or a collective reaches alone; how flows share them is the engine's business.
Left out: storage, other nodes, the CPU's own memory traffic.
"""

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .gpu import GPU
from .host import Host, Overheads
from .units import Name, Text
from .wiring import Wiring


class Node(Struct, frozen=True, forbid_unknown_fields=True):
    """One machine of equal GPUs."""

    name: Name
    title: Text
    gpu: GPU
    host: Host
    wiring: Wiring
    fingerprint: str = ""
    """Identity of the machine that a calibrated profile was measured on."""
    notes: str = ""

    def __post_init__(self) -> None:
        wired, memories = len(self.wiring.sockets), len(self.host.sockets)
        if memories not in (1, wired):
            raise ValueError(
                f"host.sockets: {memories} of them, but wiring.sockets has {wired}; give one for all, or each"
            )
        if wired > 1 and self.host.cross_socket is None and self.wiring.exchanges_in_host_memory:
            raise ValueError("host.cross_socket_GBps: missing; collectives through host memory between sockets need it")

    @property
    def gpus(self) -> int:
        """How many GPUs it has."""
        return self.wiring.gpus

    def with_overheads(self, overheads: Overheads) -> "Node":
        """The node whose host takes these times to issue commands."""
        return replace(self, host=replace(self.host, overheads=overheads))

    def rewired(self, **changes: Any) -> "Node":
        """The node with these fields of its wiring instead."""
        return replace(self, wiring=replace(self.wiring, **changes))
