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
from offsim.scenario.host import Overheads
from offsim.scenario.quantity import Quantity

from .values_in_use import ValuesInUse


class HostCosts:
    """Seconds of host time per command: per kernel launched, per tensor copied, else per call."""

    def __init__(self, overheads: Overheads, values: ValuesInUse | None = None) -> None:
        self._values = values or ValuesInUse()
        self._launch, self._copy = overheads.launch, overheads.copy
        self._fixed: dict[type, Quantity] = {
            Collective: overheads.collective,
            Record: overheads.event,
            Wait: overheads.event,
            Allocate: overheads.allocation,
            Synchronize: overheads.synchronize,
        }

    def of(self, command: Command) -> float:
        """Seconds of one command; freeing memory costs nothing."""
        fixed = self._fixed.get(type(command))
        if fixed is not None:
            return self._values.number(fixed)
        if isinstance(command, Compute):
            return self._values.number(self._launch) * len(command.kernels)
        if isinstance(command, Copy):
            return self._values.number(self._copy) * command.calls
        if isinstance(command, Free):
            return 0.0
        assert isinstance(command, HostWork)
        if command.worked_out_from is not None:
            self._values.count(command.worked_out_from)
        return command.duration
