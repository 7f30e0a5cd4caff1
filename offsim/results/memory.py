"""Device and host memory of a program, as torch counts them: at the host's issue, with no clock.

Device: blocks are rounded to 512 bytes when allocated and to 2 MiB when reserved; each stream has its own pool,
reserved memory is the sum of the pools' high-water marks. Host: torch's pinned allocator rounds each block up to a
power of two. Memory freed with recorded streams counts as reserved until the host has waited for them: at most that
long, since there is no clock here. Left out: fragmentation, and the retry after freeing cached blocks, so only
allocated memory decides what fits.
"""

from collections.abc import Sequence
from math import ceil, log2
from typing import NamedTuple

from offsim.engine.values_in_use import ValuesInUse
from offsim.program.commands import COMPUTE, HOST_POOLS, Allocate, Command, Copy, Free, StreamProgram, Synchronize
from offsim.program.passages import Passage, passages_of
from offsim.program.uses import UseKind
from offsim.scenario.scenario import Scenario

ALLOCATED_UNIT = 512
RESERVED_UNIT = 2**21


class PhasePeak(NamedTuple):
    """The highest levels within one phase, which is all uses of one kind; of one rank [bytes]."""

    phase: UseKind
    allocated: float
    reserved: float
    """High-water mark of the pools so far."""
    pinned: float
    pageable: float
    largest: tuple[tuple[str, float], ...]
    """Buffers live at the peak, by owner, largest first."""
    reserved_at_most: bool = False
    """Whether `reserved` is an upper bound: memory was freed that streams may have gone on using (record_stream)."""


class OutOfMemory(NamedTuple):
    """What does not fit, and where."""

    where: str
    """device or host."""
    phase: UseKind
    rank: int
    needed: float
    available: float

    @property
    def shortfall(self) -> float:
        return self.needed - self.available


def pinned_bytes(bytes_: float, rounding: str) -> float:
    """Host memory that pinning `bytes_` locks.

    >>> pinned_bytes(702_788_608, "power-of-two") / 2**30
    1.0
    """
    if rounding == "none" or bytes_ <= 0:
        return float(bytes_)
    return float(2 ** ceil(log2(bytes_)))


class Levels:
    """Running levels of one rank's pools."""

    def __init__(self, rounding: str) -> None:
        self.rounding = rounding
        self.live: dict[str, tuple[float, str]] = {}
        self.device = 0.0
        self.host = {"pinned": 0.0, "pageable": 0.0}
        self._pool: dict[str, float] = {}
        self._marks: dict[str, float] = {}
        self.deferred: list[tuple[str, float, frozenset[str]]] = []
        """Pool, bytes and streams of freed memory that these streams may still use."""
        self.recorded = False
        """Whether any memory was freed with recorded streams."""

    def allocate(self, command: Allocate) -> None:
        if command.pool in HOST_POOLS:
            size = pinned_bytes(command.bytes, self.rounding) if command.pool == "pinned" else command.bytes
            self.host[command.pool] += size
        else:
            size = float(ceil(command.bytes / ALLOCATED_UNIT) * ALLOCATED_UNIT)
            self.device += size
            level = self._pool.get(command.pool, 0.0) + ceil(command.bytes / RESERVED_UNIT) * RESERVED_UNIT
            self._pool[command.pool] = level
            self._marks[command.pool] = max(level, self._marks.get(command.pool, 0.0))
        self.live[command.buffer] = (size, command.pool)

    def free(self, command: Free) -> None:
        size, pool = self.live.pop(command.buffer)
        if pool in HOST_POOLS:
            self.host[pool] -= size
        else:
            self.device -= size
            reserved = ceil(size / RESERVED_UNIT) * RESERVED_UNIT
            if command.recorded:
                self.recorded = True
                self.deferred.append((pool, reserved, frozenset(command.recorded)))
            else:
                self._pool[pool] -= reserved

    def reached(self, streams: frozenset[str] | None) -> None:
        """Take note that the host has waited for these streams (None: for all): what only they used is free again."""
        for pool, size, recorded in self.deferred:
            if streams is None or recorded <= streams:
                self._pool[pool] -= size
        self.deferred = [kept for kept in self.deferred if streams is not None and not kept[2] <= streams]

    @property
    def state(self) -> tuple[object, ...]:
        """What the levels after any commands depend on, besides these."""
        return frozenset(self.live), tuple(self.deferred)

    @property
    def reserved(self) -> float:
        return sum(self._marks.values())


def owners(live: dict[str, tuple[float, str]]) -> tuple[tuple[str, float], ...]:
    """Device buffers, of all that are live, summed by owner (the name without its block number); largest first."""
    sums: dict[str, float] = {}
    for name, (size, pool) in live.items():
        if pool not in HOST_POOLS:
            owner = name.rsplit(".", 1)[0] if name.rsplit(".", 1)[-1].isdigit() else name
            sums[owner] = sums.get(owner, 0.0) + size
    return tuple(sorted(sums.items(), key=lambda item: -item[1]))


def phase_peaks(scenario: Scenario, program: StreamProgram, values: ValuesInUse | None = None) -> list[PhasePeak]:
    """Peaks by phase, in the order in which the phases first occur; `values` are told what this reads of the node."""
    values = values or ValuesInUse()
    levels = Levels(scenario.node.host.pinned_rounding)
    if scenario.node.gpu.workspace is not None:
        levels.allocate(Allocate("library workspaces", values.number(scenario.node.gpu.workspace), COMPUTE))
    peaks: dict[UseKind, PhasePeak] = {}
    before: tuple[object, ...] = ()
    for section in program.sections:
        kind = section.use.kind
        state = (id(section.commands), kind, *levels.state)
        if state != before:
            peaks[kind] = _section_peak(kind, passages_of(section.commands), levels, peaks.get(kind))
        before = state
    return list(peaks.values())


def _section_peak(phase: UseKind, passages: Sequence[Passage], levels: Levels, peak: PhasePeak | None) -> PhasePeak:
    highest = _Highest(levels, *((peak.allocated, peak.pinned, peak.pageable) if peak else (-1.0, 0.0, 0.0)))
    before: tuple[object, ...] = ()
    for passage in passages:
        state = (id(passage), *levels.state)
        if state != before:  # Else all levels are, and come out, as they did.
            for part in passage:
                highest.look(part.before)
                highest.look(part.after)
        before = state
    largest = owners(highest.live) if peak is None or highest.allocated > peak.allocated else peak.largest
    return PhasePeak(
        phase, highest.allocated, levels.reserved, highest.pinned, highest.pageable, largest, levels.recorded
    )


class _Highest:
    """The highest levels while commands are looked at."""

    def __init__(self, levels: Levels, allocated: float, pinned: float, pageable: float) -> None:
        self.levels = levels
        self.allocated, self.pinned, self.pageable = allocated, pinned, pageable
        self.live: dict[str, tuple[float, str]] = {}
        """When most was allocated."""
        self._compare()

    def look(self, commands: Sequence[Command]) -> None:
        """Let commands allocate, free and wait."""
        levels = self.levels
        for command in commands:
            if isinstance(command, Allocate):
                levels.allocate(command)
                if levels.device > self.allocated or command.pool in HOST_POOLS:
                    self._compare()
            elif isinstance(command, Free):
                levels.free(command)
            elif levels.deferred:
                _wait(levels, command)

    def _compare(self) -> None:
        levels = self.levels
        if levels.device > self.allocated:
            self.allocated, self.live = levels.device, dict(levels.live)
        self.pinned = max(self.pinned, levels.host["pinned"])
        self.pageable = max(self.pageable, levels.host["pageable"])


def _wait(levels: Levels, command: Command) -> None:
    """What the host waits for with a command."""
    if isinstance(command, Synchronize):
        levels.reached(None if command.scope == "device" else frozenset({command.target}))
    elif isinstance(command, Copy) and command.host_memory != "pinned":
        levels.reached(frozenset({command.stream}))


def out_of_memory(scenario: Scenario, peaks: list[PhasePeak], values: ValuesInUse | None = None) -> OutOfMemory | None:
    """What is lacking most, on the device or else in the node's host memory, in its worst phase; or None.

    `values` are told what this reads of the node.
    """
    node, ranks, values = scenario.node, scenario.workload.gpus, values or ValuesInUse()
    device = values.number(node.gpu.memory) - values.number(node.gpu.context)
    host = values.number(node.host.memory)
    worst = max(peaks, key=lambda peak: peak.allocated)
    if worst.allocated > device:
        return OutOfMemory("device", worst.phase, 0, worst.allocated, device)
    fullest = max(peaks, key=lambda peak: peak.pinned + peak.pageable)
    needed = (fullest.pinned + fullest.pageable) * ranks
    if needed > host:
        return OutOfMemory("host", fullest.phase, 0, needed, host)
    return None
