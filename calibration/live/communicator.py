"""Collectives between the live ranks of a program: torch.distributed, or nothing where one rank runs alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from offsim.program.commands import COMPUTE, CollectiveName
from offsim.program.groups import Partition


class ProcessGroup(NamedTuple):
    """Ranks that call a collective together."""

    size: int
    place: int
    """This rank's number in it."""
    handle: Any


class Communicator:
    """This process among its peers: barriers, gathered values and collectives."""

    def __init__(self, rank: int = 0, world: int = 1, device: Any = None) -> None:
        self.rank, self.world = rank, world
        self._device = device
        self._groups: dict[tuple[Partition, str], ProcessGroup] = {}

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.all_reduce(torch.zeros(1, device=self._device))

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's value, by rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def group(self, partition: Partition, stream: str = COMPUTE) -> ProcessGroup:
        """This rank's group of a partition of all ranks; each stream has communicators of its own.

        Collectives of one communicator run one after the other, whatever their streams.
        """
        if (partition, stream) not in self._groups:
            own = next(group for group in partition if self.rank in group)
            default = len(own) == self.world and stream == COMPUTE
            handles = {g: None if default else dist.new_group(list(g)) for g in partition}
            self._groups[partition, stream] = ProcessGroup(len(own), own.index(self.rank), handles[own])
        return self._groups[partition, stream]

    def operation(self, kind: CollectiveName) -> Callable[[Any, Any, ProcessGroup], object]:
        """The function that runs a kind of collective from an input to an output tensor of bytes."""
        if kind == "all-reduce":
            return lambda _, source, group: dist.all_reduce(source.view(torch.bfloat16), group=group.handle)
        if kind == "all-gather":
            return lambda target, _, group: self.all_gather(target, group)
        return lambda target, source, group: dist.all_to_all_single(target, source, group=group.handle)

    def all_gather(self, buffer: Any, group: ProcessGroup) -> None:
        """Send each rank's part of the buffer to all, in place."""
        part = buffer.numel() // group.size
        own = buffer[group.place * part : (group.place + 1) * part]
        if own.device.type == "cpu":
            own = own.clone()
        dist.all_gather_into_tensor(buffer[: part * group.size], own, group=group.handle)
