"""Ranks that compute unequally fast: how long their kernels of an all-to-all last while they wait for each other.

A program has one duration for a kernel on all ranks; here each rank takes its own, over the engine's network and
collectives: blocks of a steady step, one after the other, each rank computing for its own time between exchanges. Left
out: everything but exchanges on the links (full-model offload copies nothing in a steady step).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from offsim.engine.agenda import Agenda
from offsim.engine.collective import Channel, FabricRoutes
from offsim.engine.network import Network
from offsim.engine.prepared import Prepared
from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.commands import Collective
from offsim.scenario.scenario import Scenario

LARGE = 1e8
"""Bytes sent by a rank: 165.9 MB for the tokens, 3.9 MB for the text."""


class Exchange(NamedTuple):
    """An all-to-all of a block and the kernels before it."""

    compute: float
    """Seconds on the fastest rank."""
    bytes: float
    """That a rank sends."""


class KernelTime(NamedTuple):
    """How long one rank's kernel of one call lasted."""

    rank: int
    bytes: float
    seconds: float


class Unequal(NamedTuple):
    """What came out."""

    kernels: list[KernelTime]
    seconds: float
    """All blocks."""

    def large(self, rank: int | None = None) -> list[float]:
        """Seconds of large calls, of one rank or of all."""
        return [k.seconds for k in self.kernels if k.bytes > LARGE and rank in (None, k.rank)]

    def small(self) -> list[float]:
        """Seconds of small calls."""
        return [k.seconds for k in self.kernels if k.bytes <= LARGE]


def block_of(scenario: Scenario, number: int = 5) -> list[Exchange]:
    """The exchanges of one block in a steady step, with the kernels before each; kernels after the last count there."""
    program = build(scenario)
    spans = [s for s in simulate(scenario, program).spans if s.rank == 0 and s.name.startswith(f"blocks.{number} ")]
    spans = [s for s in spans if s.kind in ("compute", "collective")]
    one = spans[: next(i for i, span in enumerate(spans) if span.name.endswith("ffn")) + 1]
    sent = {f"{c.name}": c.bytes for c in program.sections[4].commands if isinstance(c, Collective)}
    found, pending = [], 0.0
    for span in one:
        if span.kind == "compute":
            pending += span.duration
        else:
            found.append(Exchange(pending, span.bytes or sent[span.name]))
            pending = 0.0
    return [Exchange(found[0].compute + pending, found[0].bytes), *found[1:]]


class _Run:
    """Ranks that compute, meet, and go on."""

    def __init__(self, scenario: Scenario, exchanges: Sequence[Exchange], slower: Sequence[float], late: float) -> None:
        prepared = Prepared(scenario, build(scenario))
        fabric = prepared.fabric(proportional_weight=True)
        self.agenda = Agenda()
        network = Network(self.agenda, fabric.rows)
        ranks = tuple(range(len(slower)))
        self.channel = Channel(self.agenda, network, FabricRoutes(fabric, aggregated=False), ranks, ranks)
        self.exchanges, self.slower = exchanges, slower
        self.kernels: list[KernelTime] = []
        for rank in ranks:
            self.agenda.alarm(late if rank == ranks[-1] else 0.0, partial(self._compute, rank, 0))

    def _compute(self, rank: int, number: int) -> None:
        if number < len(self.exchanges):
            seconds = self.exchanges[number].compute * (1 + self.slower[rank])
            self.agenda.alarm(seconds, partial(self._arrive, rank, number))

    def _arrive(self, rank: int, number: int) -> None:
        exchange = self.exchanges[number]
        command = Collective("compute", "", "all-to-all", exchange.bytes)
        done: Callable[[], object] = partial(self._done, rank, number, self.agenda.now)
        self.channel.arrive(rank, command, done)

    def _done(self, rank: int, number: int, began: float) -> None:
        self.kernels.append(KernelTime(rank, self.exchanges[number].bytes, self.agenda.now - began))
        self._compute(rank, number + 1)


def run_unequal(
    scenario: Scenario, exchanges: Sequence[Exchange], slower: Sequence[float], blocks: int = 1, late: float = 0.0
) -> Unequal:
    """Blocks on ranks that take `slower` more of the kernels' time each; the last one begins `late` seconds later."""
    run = _Run(scenario, [*exchanges] * blocks, slower, late)
    run.agenda.run()
    return Unequal(run.kernels, run.agenda.now)


def spread(most: float, ranks: int = 4) -> tuple[float, ...]:
    """Ranks from the fastest to one that is slower by `most`, evenly.

    >>> spread(0.06)
    (0.0, 0.02, 0.04, 0.06)
    """
    return tuple(round(most * rank / (ranks - 1), 12) for rank in range(ranks))
