"""Static check of a stream program: no clock, only what must come before what.

A program passes if no timing whatsoever lets a kernel read weights that haven't arrived, or a copy overwrite
memory that is still in use. Buffers allocated while loading without a copy count as loaded. Memory goes
back to its pool in host order, so every write into a buffer must come after all uses of what was freed into
its pool before the buffer was allocated: conservative, since the allocator may also hand out other memory. Uses on
streams that were recorded on the freed memory (`Free.recorded`) are the allocator's to wait for.
Host memory is only counted: torch keeps a pinned block until its copies have ended, and pageable copies block
the host.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from .commands import (
    HOST_POOLS,
    WHOLE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    Piece,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from .order import Order


class Problem(NamedTuple):
    """One mistake in a program and where it stands."""

    section: str
    position: int
    """Index of the command in its section."""
    command: Command
    message: str


UsesBuffers = Compute | Collective | Copy
"""What uses buffers."""
Uses = dict[tuple[str, Piece], tuple[int, str]]
"""Stream and piece -> tick of its last command that uses that memory, and the buffer that it knows the memory as."""


class Buffer:
    """A live buffer: where it was allocated, what wrote it, what used its memory."""

    __slots__ = ("allocate", "copied", "position", "read", "section", "uses", "written")

    def __init__(self, section: Section, position: int, allocate: Allocate, uses: Uses) -> None:
        self.section = section
        self.position = position
        self.allocate = allocate
        self.written: dict[Piece, tuple[str, int]] = {}
        """Stream and tick of the last write, by piece."""
        self.copied = False
        """Whether the last write was a copy from the host."""
        self.read = False
        self.uses = uses
        """Uses of this buffer, and of those that were freed into its pool before it was allocated."""

    def lacks(self, piece: Piece) -> str:
        """What of the buffer's piece nothing has written, for messages; empty if it has all been."""
        if not self.written:
            return "which nothing has written"
        reached, (start, end) = Fraction(0), _span(piece)
        for a, b in sorted(map(_span, self.written)):
            reached = max(reached, b) if a <= max(reached, start) else reached
        return "" if reached >= end else "of which a piece was never written"

    def write(self, piece: Piece, stream: str, tick: int) -> None:
        """Note that a command writes a piece of the buffer."""
        if piece == WHOLE:
            self.written.clear()
        self.written[piece] = (stream, tick)


def _span(piece: Piece) -> tuple[Fraction, Fraction]:
    """Where a piece begins and ends, in shares of the whole."""
    which, count = piece
    return Fraction(which, count), Fraction(which + 1, count)


def _overlap(one: Piece, other: Piece) -> bool:
    if WHOLE in (one, other) or one == other:
        return True
    (a, b), (c, d) = _span(one), _span(other)
    return a < d and c < b


def problems(program: StreamProgram) -> list[Problem]:
    """Everything wrong with a program, in host order; leaks last."""
    check = _Check(program)
    return check.problems + check.leaks()


def live_at_end(program: StreamProgram) -> list[Allocate]:
    """Allocations that outlive the program: resident weights, prefetches for a next request, host copies."""
    return [buffer.allocate for buffer in _Check(program).live.values()]


class _Check:
    """One walk over a program.

    Of steps that repeat two are walked: all that a third one meets is the second, just as that met the first.
    """

    def __init__(self, program: StreamProgram) -> None:
        self.problems: list[Problem] = []
        self.live: dict[str, Buffer] = {}
        self._freed: set[str] = set()
        self._pools: dict[str, Uses] = {}
        """Pool -> uses of the memory that was freed into it."""
        self._order = Order()
        self._groups = program.groups
        self._reported: set[tuple[int, int, str]] = set()
        self._place: tuple[Section, int, Command]
        self._visit: dict[type, Callable[[Any], None]] = {
            Compute: lambda command: self._use(command, command.reads, command.writes),
            Collective: self._collective,
            Copy: self._copy,
            Record: lambda command: self._order.record(command.stream, command.event),
            Wait: self._wait,
            Synchronize: self._synchronize,
            Allocate: self._allocate,
            Free: self._free,
        }
        times, last = 0, None
        for section in program.sections:
            times = times + 1 if section.commands is last else 1
            last = section.commands
            if times <= 2:
                self._walk(section)

    def leaks(self) -> list[Problem]:
        """Buffers that should have been freed by the end."""
        return [
            Problem(buffer.section.name, buffer.position, buffer.allocate, f"buffer {name!r} is never freed")
            for name, buffer in self.live.items()
            if self._must_be_freed(name, buffer)
        ]

    def _must_be_freed(self, name: str, buffer: Buffer) -> bool:
        """All but weights: allocated while loading, on the host, or copied in by a step and still of use.

        Of use: not read yet (prefetched for the next forward), or of a name that is never freed (resident
        since its copy). Activations are never copied in; a staging buffer was read, its name freed before.
        """
        if buffer.section.use.kind == "load" or buffer.allocate.pool in HOST_POOLS:
            return False
        if not buffer.section.use.is_step or not buffer.copied:
            return True
        return buffer.read and name in self._freed

    def _walk(self, section: Section) -> None:
        for position, command in enumerate(section.commands):
            visit = self._visit.get(command.__class__)
            if visit is not None:
                self._place = (section, position, command)
                visit(command)

    def _report(self, message: str) -> None:
        """Note a problem, once for all repetitions of a step."""
        section, position, command = self._place
        key = (id(section.commands), position, message)
        if key not in self._reported:
            self._reported.add(key)
            self.problems.append(Problem(section.name, position, command, message))

    def _collective(self, collective: Collective) -> None:
        if collective.group not in self._groups:
            self._report(f"{_title(collective)} is over groups {collective.group!r}, which the program does not have")
        self._use(collective, collective.reads, collective.writes)

    def _copy(self, copy: Copy) -> None:
        into = copy.direction == "H2D"
        self._use(copy, () if into else (copy.buffer,), (copy.buffer,) if into else ())
        if copy.host_memory != "pinned":
            self._order.drain(copy.stream)

    def _wait(self, wait: Wait) -> None:
        if not self._order.wait(wait.stream, wait.event):
            self._report(f"stream {wait.stream!r} waits for event {wait.event!r}, which was never recorded")

    def _synchronize(self, synchronize: Synchronize) -> None:
        if not self._order.synchronize(synchronize):
            self._report(f"the host waits for event {synchronize.target!r}, which was never recorded")

    def _allocate(self, allocate: Allocate) -> None:
        if allocate.buffer in self.live:
            self._report(f"allocates buffer {allocate.buffer!r}, which is still allocated")
        section, position, _ = self._place
        uses = dict(self._pools.get(allocate.pool, {}))
        self.live[allocate.buffer] = Buffer(section, position, allocate, uses)

    def _free(self, free: Free) -> None:
        buffer = self.live.pop(free.buffer, None)
        if buffer is None:
            state = "was freed before" if free.buffer in self._freed else "was never allocated"
            self._report(f"frees buffer {free.buffer!r}, which {state}")
            return
        self._freed.add(free.buffer)
        pool = self._pools.setdefault(buffer.allocate.pool, {})
        for (stream, _), use in buffer.uses.items():
            # The allocator itself waits for streams that were recorded.
            if stream in free.recorded:
                continue
            if (stream, WHOLE) not in pool or pool[stream, WHOLE][0] < use[0]:
                pool[stream, WHOLE] = use

    def _use(self, work: UsesBuffers, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
        """Check a command against all before it, then note what it uses."""
        piece = WHOLE if work.__class__ is Compute else work.piece  # type: ignore[union-attr]
        read = [buffer for name in reads if (buffer := self._find(work, "reads", name))]
        written = [buffer for name in writes if (buffer := self._find(work, "writes", name))]
        for buffer in read:
            self._check_read(work, buffer, piece)
        for buffer in written:
            self._check_write(work, buffer, piece)
        stream = work.stream
        tick = self._order.issue(stream)
        for buffer in read:
            buffer.read = True
            buffer.uses[stream, piece] = (tick, buffer.allocate.buffer)
        for buffer in written:
            buffer.write(piece, stream, tick)
            buffer.copied = work.__class__ is Copy
            buffer.uses[stream, piece] = (tick, buffer.allocate.buffer)

    def _find(self, work: UsesBuffers, verb: str, name: str) -> Buffer | None:
        buffer = self.live.get(name)
        if buffer is None:
            state = "after it was freed" if name in self._freed else "which was never allocated"
            self._report(f"{_title(work)} {verb} buffer {name!r}, {state}")
        return buffer

    def _check_read(self, work: UsesBuffers, buffer: Buffer, piece: Piece) -> None:
        what = f"reads buffer {buffer.allocate.buffer!r}"
        lacking = buffer.lacks(piece)
        if lacking and (buffer.written or buffer.section.use.kind != "load"):
            self._report(f"{_title(work)} {what}, {lacking}")
            return
        for written, (writer, tick) in buffer.written.items():
            if _overlap(written, piece) and self._order.clock(work.stream).get(writer, 0) < tick:
                self._report(f"{_title(work)} {what} without waiting for stream {writer!r}, which writes it")

    def _check_write(self, work: UsesBuffers, buffer: Buffer, piece: Piece) -> None:
        clock, name = self._order.clock(work.stream), buffer.allocate.buffer
        for (user, part), (tick, used) in buffer.uses.items():
            if clock.get(user, 0) >= tick or not _overlap(part, piece):
                continue
            memory = "" if used == name else f", maybe in the memory of freed buffer {used!r},"
            what = f"writes buffer {name!r}{memory} without waiting for stream {user!r}, which still uses it"
            self._report(f"{_title(work)} {what}")


def _title(work: UsesBuffers) -> str:
    return f"{work.__class__.__name__.lower()} {work.name!r} on stream {work.stream!r}"
