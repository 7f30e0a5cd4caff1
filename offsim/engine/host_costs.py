"""What issuing a command costs the host thread: one table for the simulation and for its lower bounds."""

from offsim.program.commands import (
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Record,
    Synchronize,
    Wait,
)
from offsim.scenario.node import Overheads


class HostCosts:
    """Seconds of host time per command: per kernel launched, per tensor copied, else per call."""

    def __init__(self, overheads: Overheads) -> None:
        self._launch = overheads.launch.value
        self._copy = overheads.copy.value
        self._fixed: dict[type, float] = {
            Free: 0.0,
            Collective: overheads.collective.value,
            Record: overheads.event.value,
            Wait: overheads.event.value,
            Allocate: overheads.allocation.value,
            Synchronize: overheads.synchronize.value,
        }

    def of(self, command: Command) -> float:
        """Seconds of one command; freeing memory costs nothing."""
        fixed = self._fixed.get(type(command))
        if fixed is not None:
            return fixed
        if isinstance(command, Compute):
            return self._launch * len(command.kernels)
        if isinstance(command, Copy):
            return self._copy * command.calls
        assert isinstance(command, HostWork)
        return command.duration
