"""The order of events of ChunkFlow: which chunks are issued where in a block, and what they wait for."""

from collections.abc import Hashable, Iterator
from math import ceil
from typing import NamedTuple

from offsim.scenario.scenario import Scenario

from ...commands import (
    COMPUTE,
    Allocate,
    Collective,
    Command,
    Copy,
    Free,
    HostWork,
    Record,
    Synchronize,
    Wait,
)
from ...first_order import copy_rate
from ...offloading.hooks import PolicyProgram, wait_stream
from ...passages import Template
from .gate import as_they_fit, at_host_pace, collectives_before, gate_windows, issue_instants
from .parameters import ChunkFlow

CHUNK_STREAM, ARRIVED = "copy", "chunk arrived"
ChainBlock = tuple[int, int]
"""Expert and position in its chain of blocks."""


class Streamed(NamedTuple):
    """What of each block of a list comes and goes."""

    chunks: int
    bytes: float
    """The block's own bytes, without what fills up the last chunk."""
    resident_chunks: int


class DueChunk(NamedTuple):
    """A chunk that has not been issued yet."""

    place: int
    """Where in the block, or from where on."""
    gate: int
    """Which of the block's collectives it waits for; 0: none."""
    copy: Copy
    event: str
    """Recorded behind it."""


class ChunkFlowProgram(PolicyProgram):
    """Every expert's blocks as one chain; the rest of the transformers stays on the device."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: ChunkFlow) -> None:
        super().__init__(scenario)
        self.policy = policy
        self.forwards = scenario.workload.forwards(scenario.model)
        self.chain = [(index, block) for index, count in enumerate(self.sizes.count) for block in range(count)]
        self.streamed = [self._streamed(bytes_) for bytes_ in self.sizes.block]
        self.templates: dict[int, Template] = {}
        self.places: dict[tuple[int, int], list[int]] = {}
        """Where each chunk is issued, by the lists of the block that runs and of the one that comes."""
        self.on_device: set[ChainBlock] = set()
        """Blocks whose chunks are there, or coming."""
        self.due: list[DueChunk] = []
        self.passed = 0
        """The gate that the copy stream waited for last in this block."""

    def _streamed(self, bytes_: float) -> Streamed:
        size = self.policy.chunk
        chunks = ceil(bytes_ / size)
        resident = round(self.policy.resident_fraction * chunks)
        return Streamed(chunks - resident, max(0.0, bytes_ - resident * size), resident)

    def state(self) -> Hashable:
        return frozenset(self.on_device), self.upcoming[: self.forwards + 1]

    def stops(self, index: int, template: Template) -> list[int]:
        self.templates[index] = template
        for coming, streamed in enumerate(self.streamed):
            self.places[index, coming] = self._places(template, streamed)
        gates = [i + 1 for i, command in enumerate(template.commands) if isinstance(command, Collective)]
        stops = set(gates) if self.policy.gate == "collective" else set()
        if self.policy.launched_ahead:
            stops.update(place for coming in range(len(self.streamed)) for place in self.places[index, coming])
        return sorted(stops - {0, len(template.commands)})

    def _places(self, template: Template, streamed: Streamed) -> list[int]:
        """Where, while a block runs, each chunk of the next one is issued, or from where on it may start."""
        costs, chunk_cost = self.scenario.node.host.overheads, self.policy.chunk_cost
        issue = chunk_cost + costs.copy.value + costs.event.value
        if self.policy.launched_ahead:
            return at_host_pace(streamed.chunks, issue_instants(self.scenario, template), issue)
        if self.policy.gate == "none":
            return [0] * streamed.chunks
        each = self.policy.chunk / copy_rate(self.scenario) + self.scenario.node.wiring.pcie.latency.value
        each += issue + costs.synchronize.value
        return as_they_fit(streamed.chunks, gate_windows(self.scenario, template), each)

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert in range(self.sizes.experts):
            for index, block in self.chain:
                buffer, streamed = self.weights(expert, index, block), self.streamed[index]
                yield Allocate(f"{self.sizes.buffer(expert, index, block)} on host", self.sizes.block[index], "pinned")
                if streamed.resident_chunks:
                    held = buffer if not streamed.chunks else f"{buffer} resident"
                    yield Allocate(held, streamed.resident_chunks * self.policy.chunk, CHUNK_STREAM)
        yield from self._bring_now((0, 0))

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        here = (expert, self.chain.index((index, block)))
        if here not in self.on_device:
            yield from self._bring_now(here)
        if self.streamed[index].chunks:
            yield Wait(COMPUTE, self._ready(here))
        coming, self.passed = self._coming(here), 0
        if coming not in self.on_device and self._chunks_of(coming).chunks:
            yield from self._make_room(coming)
            self.due = self._chunks(coming, index)
        if self.policy.launched_ahead:
            yield from self._issue_ahead(0)
        else:
            first = [due for due in self.due[:1] if due.gate == 0]
            yield from self._issue(first)
            self.due = self.due[len(first) :]

    def within_block(self, expert: int, index: int, block: int, stop: int) -> Iterator[Command]:
        template = self.templates[index]
        if self.policy.gate == "collective" and isinstance(template.commands[stop - 1], Collective):
            yield Record(COMPUTE, _gate_event(collectives_before(template, stop)))
        if self.policy.launched_ahead:
            yield from self._issue_ahead(stop)

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        if self.policy.launched_ahead:
            yield from self._issue(self.due)
        for chunk in self.due if not self.policy.launched_ahead else ():
            if chunk.copy.piece[0]:
                yield Synchronize("event", ARRIVED)
            yield from self._issue([chunk])
        self.due = []
        here = (expert, self.chain.index((index, block)))
        self.on_device.discard(here)
        if self.streamed[index].chunks:
            yield Free(self._buffer(here))

    def _coming(self, here: ChainBlock) -> ChainBlock:
        """The block that runs after this one, around the end."""
        expert, position = here
        if position + 1 < len(self.chain):
            return expert, position + 1
        return (self.upcoming[1] if len(self.upcoming) > 1 else expert), 0

    def _make_room(self, block: ChainBlock) -> Iterator[Command]:
        """Fixed chunk buffers of one block; what was in them is not overwritten before its kernels have ended."""
        yield from wait_stream(CHUNK_STREAM, COMPUTE)
        yield Allocate(self._buffer(block), self._chunks_of(block).chunks * self.policy.chunk, CHUNK_STREAM)
        self.on_device.add(block)

    def _bring_now(self, block: ChainBlock) -> Iterator[Command]:
        """A block that no other block has brought."""
        self.on_device.add(block)
        if self._chunks_of(block).chunks:
            yield from self._make_room(block)
            yield from self._issue(self._chunks(block, None))

    def _chunks(self, block: ChainBlock, beside: int | None) -> list[DueChunk]:
        """The chunks of a block, to be issued while a block of list `beside` runs."""
        streamed, buffer, size = self._chunks_of(block), self._buffer(block), self.policy.chunk
        count, found = streamed.chunks, []
        places = [0] * count if beside is None else self.places[beside, self.chain[block[1]][0]]
        for k, place in enumerate(places):
            closed = beside is not None and self.policy.gate == "collective"
            gate = collectives_before(self.templates[beside], place) if beside is not None and closed else 0
            moved = min(size, streamed.bytes - k * size)
            copy = Copy(CHUNK_STREAM, buffer, "H2D", moved, "pinned", buffer, piece=(k, count))
            found.append(DueChunk(place, gate, copy, self._ready(block) if k == count - 1 else ARRIVED))
        return found

    def _issue_ahead(self, stop: int) -> Iterator[Command]:
        """What the worker issues before a command of the block."""
        yield from self._issue([due for due in self.due if due.place == stop])
        self.due = [due for due in self.due if due.place != stop]

    def _issue(self, chunks: list[DueChunk]) -> Iterator[Command]:
        """Chunks, each behind the gate that it finds closed."""
        for chunk in chunks:
            if self.policy.chunk_cost:
                yield HostWork("chunk", self.policy.chunk_cost)
            if chunk.gate != self.passed:
                yield Wait(CHUNK_STREAM, _gate_event(chunk.gate))
                self.passed = chunk.gate
            yield chunk.copy
            yield Record(CHUNK_STREAM, chunk.event)

    def _chunks_of(self, block: ChainBlock) -> Streamed:
        return self.streamed[self.chain[block[1]][0]]

    def _buffer(self, block: ChainBlock) -> str:
        return self.sizes.buffer(block[0], *self.chain[block[1]])

    def _ready(self, block: ChainBlock) -> str:
        return f"{self._buffer(block)} ready"


def _gate_event(gate: int) -> str:
    """The event behind one of a block's collectives."""
    return f"collective {gate} ended"
