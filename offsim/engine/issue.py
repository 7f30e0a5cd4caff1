"""What the host thread will issue in a section, worked out ahead: stream by stream, and in pieces.

A program has no branches, so the order on every stream, the record that a wait refers to and the host's time between
two places where it may block are known before anything runs. What remains for the simulation is when. A piece ends
where the host blocks, where a block begins, and after a sixteenth of the queue depth on one stream: before a piece the
host waits until there is room for it.
"""

from bisect import bisect_right
from collections.abc import Hashable
from typing import NamedTuple

from offsim.program.commands import (
    COMPUTE,
    Collective,
    Command,
    Compute,
    Copy,
    HostWork,
    Record,
    Section,
    Synchronize,
    Wait,
    stream_of,
)

from .host_costs import HostCosts

Place = tuple[str, int]
"""A stream and how many of its commands of this section have then been done."""
WORK = (Compute, Copy, Collective)
LONGEST_PERIOD = 8
"""Blocks after which a pattern may repeat: prefetching in groups of P repeats after P."""


class Item(NamedTuple):
    """One command on its stream."""

    command: Command
    piece: int
    offset: float
    """Host seconds from the piece's release to this command's issue."""
    awaited: Place | str | None
    """Of a wait: the record in this section; or the event, where an earlier section recorded it."""
    block: int
    """The block that begins with this command on the compute stream; -1: none."""


class HostSpan(NamedTuple):
    """Host work within a piece."""

    name: str
    offset: float
    duration: float


class Piece(NamedTuple):
    """Commands that the host issues one after the other without blocking, except at the end."""

    cost: float
    """Host seconds of all of them."""
    ends: tuple[Place, ...]
    """Streams that it adds to, with the place behind its last command."""
    work: tuple[HostSpan, ...]
    blocker: Synchronize | Copy | None
    """What the host waits for at the end."""
    issued: tuple[Place, ...]
    """Of a blocker: the places that must have been reached; empty: see `event`."""
    event: Place | str | None = None
    """Of a synchronisation with an event: its record, as Item.awaited."""


class Block(NamedTuple):
    """A transformer block with its hooks."""

    command: int
    """Index of its first command."""
    piece: int
    """Its first piece."""
    begins: dict[str, int]
    """Per stream, commands of the section before it."""
    signature: int
    """Equal for blocks that look the same to the engine."""


class Plan:
    """A section as the engine reads it."""

    def __init__(self, section: Section, costs: HostCosts, depth: int, known: dict[Hashable, int]) -> None:
        self.items: dict[str, list[Item]] = {}
        self.pieces: list[Piece] = []
        self.blocks: list[Block] = []
        self.records: dict[str, Place] = {}
        self.earlier: set[str] = set()
        """Events that waits refer to and earlier sections recorded."""
        self._costs, self._known = costs, known
        self._longest = max(1, depth // 16)
        self._read(section)
        self.lengths = {name: len(items) for name, items in self.items.items()}
        self._signs = [block.signature for block in self.blocks]
        self._first_pieces = [block.piece for block in self.blocks]
        self._begins: dict[str, list[int]] = {}
        self._matches: dict[int, list[bool]] = {}

    def _read(self, section: Section) -> None:
        """One pass over the commands in host order."""
        self._open()
        starts = iter((*section.blocks, len(section.commands) + 1))
        next_start, mark = next(starts), -1
        marks: list[Hashable] = []
        for number, command in enumerate(section.commands):
            if number == next_start:
                self._close_block(marks)
                self._close()
                mark = len(self.blocks)
                self.blocks.append(Block(number, len(self.pieces), self._counts(), -1))
                next_start = next(starts)
            stream = stream_of(command)
            if stream is not None:
                awaited = self._awaited(command)
                first = mark if stream == COMPUTE else -1
                self._offset += self._costs.of(command)
                items = self.items.setdefault(stream, [])
                items.append(Item(command, len(self.pieces), self._offset, awaited, first))
                mark = -1 if stream == COMPUTE else mark
                self._added[stream] = self._added.get(stream, 0) + 1
                if isinstance(command, Record):
                    self.records[command.event] = (stream, len(items))
            if self.blocks:
                marks.append(self._look(command, stream))
            self._host(command, stream)
        self._close_block(marks)
        self._close()

    def _counts(self) -> dict[str, int]:
        return {name: len(items) for name, items in self.items.items()}

    def _open(self) -> None:
        self._offset, self._added, self._work = 0.0, dict[str, int](), list[HostSpan]()

    def _host(self, command: Command, stream: str | None) -> None:
        """What a command means to the host thread beyond putting it on a stream."""
        if isinstance(command, Synchronize):
            self._close(command)
        elif isinstance(command, Copy) and command.host_memory != "pinned":
            self._close(command)
        elif stream is None:
            if isinstance(command, HostWork):
                self._work.append(HostSpan(command.name, self._offset, command.duration))
            self._offset += self._costs.of(command)
        elif self._added[stream] >= self._longest:
            self._close()

    def _close(self, blocker: Synchronize | Copy | None = None) -> None:
        """End the current piece."""
        if blocker is None and not self._offset and not self._added and not self._work:
            return
        ends = tuple((stream, len(self.items[stream])) for stream in self._added)
        issued, event = self._targets(blocker)
        self.pieces.append(Piece(self._offset, ends, tuple(self._work), blocker, issued, event))
        self._open()

    def _targets(self, blocker: Synchronize | Copy | None) -> tuple[tuple[Place, ...], Place | str | None]:
        if blocker is None:
            return (), None
        if isinstance(blocker, Copy):
            return ((blocker.stream, len(self.items[blocker.stream])),), None
        if blocker.scope == "event":
            return (), self._record(blocker.target)
        if blocker.scope == "stream":
            return ((blocker.target, len(self.items.get(blocker.target, ()))),), None
        return tuple(self._counts().items()), None

    def _awaited(self, command: Command) -> Place | str | None:
        return self._record(command.event) if isinstance(command, Wait) else None

    def _record(self, event: str) -> Place | str:
        """The latest record of an event so far, or its name if that is an earlier section's."""
        if event not in self.records:
            self.earlier.add(event)
            return event
        return self.records[event]

    def _look(self, command: Command, stream: str | None) -> Hashable:
        """What the engine sees of a command: not its name, and places relative to the block's begin."""
        begins = self.blocks[-1].begins
        if isinstance(command, Compute):
            return (0, stream, id(command.kernels))
        if isinstance(command, Copy):
            return (1, stream, command.direction, command.bytes, command.host_memory, command.calls)
        if isinstance(command, Collective):
            return (2, stream, command.kind, command.bytes, command.group)
        if isinstance(command, Record):
            return (3, stream)
        if isinstance(command, Wait):
            return (4, stream, _relative(self._record(command.event), begins))
        if isinstance(command, Synchronize):
            target = self._record(command.target) if command.scope == "event" else command.target
            return (5, command.scope, _relative(target, begins))
        return (6, self._costs.of(command))

    def _close_block(self, marks: list[Hashable]) -> None:
        """Number the block that ends here by what it looks like."""
        if self.blocks:
            signature = self._known.setdefault(tuple(marks), len(self._known))
            self.blocks[-1] = self.blocks[-1]._replace(signature=signature)
        marks.clear()

    def last_alike(self, block: int, period: int) -> int:
        """The last of the blocks from `block` on that look like the ones `period` before; block - 1 if none does."""
        if period not in self._matches:
            signs = self._signs
            self._matches[period] = [i >= period and signs[i] == signs[i - period] for i in range(len(signs))]
        matches = self._matches[period]
        while block < len(matches) and matches[block]:
            block += 1
        return block - 1

    def may_repeat(self, block: int) -> bool:
        """Whether this block looks like one of a few before, or the next ones may."""
        signs = self._signs
        near = signs[max(0, block - LONGEST_PERIOD) : block]
        return signs[block] in near or signs[block] in signs[block + 1 : block + 1 + LONGEST_PERIOD]

    def commands_between(self, before: int, block: int) -> int:
        """Commands from the begin of one block to that of another."""
        return self.blocks[block].command - self.blocks[before].command

    def per_period(self, stream: str, before: int, block: int) -> int:
        """Commands of a stream from one block to another."""
        return self.blocks[block].begins.get(stream, 0) - self.blocks[before].begins.get(stream, 0)

    def block_at(self, stream: str, place: int) -> int:
        """The block that issues a stream's command number `place` of this section; -1 before the first."""
        if stream not in self._begins:
            self._begins[stream] = [block.begins.get(stream, 0) for block in self.blocks]
        return bisect_right(self._begins[stream], place) - 1

    def block_of_piece(self, piece: int) -> int:
        """The block that a piece belongs to; -1 before the first."""
        return bisect_right(self._first_pieces, piece) - 1


def _relative(place: Place | str, begins: dict[str, int]) -> Hashable:
    if isinstance(place, str):
        return place
    stream, count = place
    return (stream, count - begins.get(stream, 0))
