"""What probes run on: live devices (calibration.live.bench) or the engine (calibration.validate.simulated_bench).

A probe writes commands with `Record`s around what it measures and takes differences of the instants that come back,
so the same probe calibrates a node and checks the calibration inside the simulator.
"""

from typing import NamedTuple, Protocol

from calibration.samples.inventory import Inventory
from offsim.program.commands import Allocate, Command, Section, StreamProgram
from offsim.program.groups import sequence_groups
from offsim.program.uses import LOADING, Use


class Unsupported(Exception):
    """Says why this bench cannot run these commands in that way."""


class Watched(NamedTuple):
    """What the device's sensors said at one moment of a long run."""

    seconds: float
    """Seconds since the watching began, shortly before the run."""
    sm_clock_MHz: float  # noqa: N815
    power_W: float  # noqa: N815
    energy_J: float  # noqa: N815
    """A counter's joules, whose differences are what was drawn."""
    temperature_C: float = 0.0  # noqa: N815


class ProbeReading(NamedTuple):
    """What one execution of a probe's commands showed."""

    instants: dict[tuple[int, str], float]
    """(rank, event) -> seconds from the start to the event's latest record."""
    host_seconds: float
    """Time that the host of the slowest rank needed to issue the commands after the leading allocations."""
    state: dict[str, float]
    """The device's sm_clock_MHz, power_W and temperature_C; empty in simulation."""
    watched: tuple[Watched, ...] = ()
    """What sensors said every 25 ms of a run that is not gated; empty in simulation."""

    def between(self, begin: str, end: str) -> float:
        """Seconds from one event to another on the rank where that takes longest."""
        ranks = {rank for rank, event in self.instants if event == end}
        return max(self.instants[rank, end] - self.instants[rank, begin] for rank in ranks)


class Bench(Protocol):
    """Executes a probe's commands on every rank: live devices, or the engine."""

    node: Inventory
    ranks: int
    transport: str

    def run(
        self, commands: tuple[Command, ...], *, only_rank: int | None = None, settle: float = 0.0, gated: bool = True
    ) -> ProbeReading:
        """Run once on every rank, after a warm-up and `settle` seconds of idling.

        Leading `Allocate`s are made and filled before anything counts. Gated: no stream begins before the host has
        issued everything; for programs without synchronisation only. `only_rank`: copies run on that rank alone.
        """
        ...


def program_of(commands: tuple[Command, ...], ranks: int) -> StreamProgram:
    """The commands as a program of one sequence group: leading allocations in a section of their own, then the rest."""
    first = next((i for i, command in enumerate(commands) if not isinstance(command, Allocate)), len(commands))
    sections = (
        Section("memory", LOADING, commands[:first]),
        Section("probe", Use("denoise", step=0), commands[first:]),
    )
    return StreamProgram("probe", sections, sequence_groups(tuple(range(ranks))))
