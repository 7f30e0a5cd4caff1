"""What a stream has in front of it: passages in order of issue, how many commands are done, and who waits for that.

How many commands are done is all that others need to know of a stream: a recorded event has fired once so many are
done, and waits on events that have fired cost nothing.
"""

from collections.abc import Collection, Mapping
from math import inf

from offsim.program.commands import Command, Copy, Record
from offsim.program.passages import Part

from .agenda import Agenda, Callback
from .issue import PassagePlan
from .left_out import LeftOut
from .part_plan import Awaited

Label = tuple[Part, int]
"""A command by its part and its number there."""
NO_END = 10**9
"""More commands than any program has."""
PlaceInQueue = tuple["Queue", int]
"""A stream and how many of its commands have then been done since the start."""


def instant_tolerance(now: float) -> float:
    """Instants that differ by less are the same, as are states whose seconds do: what rounding of sums leaves."""
    return 1e-13 * now + 1e-15


def sooner(instant: float, now: float, seconds: float) -> float:
    """An instant, if it is still to come, so much sooner; but not before now."""
    return max(now, instant - seconds) if instant > now else instant


class Passed:
    """One section on one rank: when it was issued and done."""

    __slots__ = ("begin", "compute_end", "end", "section")

    def __init__(self, section: int, begin: float) -> None:
        self.section = section
        self.begin = self.end = self.compute_end = begin

    def come_sooner(self, now: float, seconds: float) -> bool:
        """Let what is still to come of it come so much sooner; whether anything was."""
        if max(self.begin, self.end) <= now:
            return False
        self.begin, self.end = sooner(self.begin, now, seconds), sooner(self.end, now, seconds)
        self.compute_end = sooner(self.compute_end, now, seconds)
        return True


class IssuedPassage:
    """A passage as it is issued to a rank's streams: its plan, and when its pieces were released."""

    __slots__ = ("earlier", "first", "number", "passed", "plan", "released", "starts", "streams")

    def __init__(
        self, plan: PassagePlan, passed: Passed, number: int, streams: "Mapping[str, Queue]", *, first: bool
    ) -> None:
        self.plan = plan
        self.passed = passed
        self.number = number
        """Which passage of its section it is."""
        self.first = first
        """Whether it is the first of its section on the compute stream."""
        self.streams = streams
        """Those that it has commands for."""
        self.starts = {name: stream.issued for name, stream in streams.items()}
        """Commands before this passage, by stream."""
        self.earlier: list[PlaceInQueue | None] = []
        """The records of the events that this passage waits for and earlier ones recorded; None if there was none."""
        self.released: list[list[float]] = []
        """The host's clock at which the pieces of each part began to be issued."""

    def issued(self, part: int) -> float:
        """When the host has issued all of a part, which may still be to come; infinite if it is not that far."""
        pieces = self.plan.parts[part].pieces
        if part >= len(self.released) or len(self.released[part]) < len(pieces):
            return inf
        return self.released[part][-1] + pieces[-1].cost if pieces else -inf

    def since(self, part: int, instant: float = 0.0) -> list[float]:
        """Seconds from an instant to the release of each of a part's pieces; empty if some are not released."""
        pieces = self.plan.parts[part].pieces
        released = self.released[part] if part < len(self.released) else []
        return [at - instant for at in released] if len(released) == len(pieces) else []

    def come_sooner(self, now: float, seconds: float) -> None:
        """Let what was to be issued after `now` be issued so much sooner: all of a piece of which anything was."""
        for part in range(len(self.released) - 1, -1, -1):
            instants, pieces = self.released[part], self.plan.parts[part].pieces
            if instants:
                if instants[-1] + pieces[len(instants) - 1].cost <= now:
                    break  # And so were those before.
                ends = [at + piece.cost for at, piece in zip(instants, pieces, strict=False)]
                instants[:] = [at - seconds if end > now else at for at, end in zip(instants, ends, strict=True)]

    def per_period(self, before: int, block: int) -> dict[str, int]:
        """Commands from one part to another, by stream that has any."""
        counts = {name: self.plan.per_period(name, before, block) for name in self.starts}
        return {name: count for name, count in counts.items() if count}

    @property
    def settled(self) -> bool:
        """Whether all events have fired that the passage waits for and earlier ones recorded."""
        return all(place is None or place[0].done >= place[1] for place in self.earlier)

    def recorded(self, part: int, awaited: Awaited) -> PlaceInQueue | None:
        """What a wait in this part refers to: a place on a stream; None if the event was never recorded."""
        if isinstance(awaited, int):
            return self.earlier[awaited]
        name, count = awaited
        return self.streams[name], self.starts[name] + self.plan.begins[part].get(name, 0) + count


class Ahead:
    """What is left of a passage on one stream."""

    __slots__ = ("chunk", "end", "items", "parts", "passage", "released", "start")

    def __init__(self, chunk: IssuedPassage, stream: str) -> None:
        self.chunk = chunk
        self.passage = chunk.plan.passage
        self.items = chunk.plan.items[stream]
        """All its commands here."""
        self.parts = chunk.plan.part_numbers[stream]
        """Their parts."""
        self.released = chunk.released
        self.start = chunk.starts[stream]
        """How many commands there are before it."""
        self.end = self.start + len(self.items)

    def issued(self, place: int) -> float:
        """When the host issues command number `place`, which has been released."""
        item = self.items[place]
        return self.released[self.parts[place]][item.piece] + item.offset

    def label(self, place: int) -> Label:
        """What command number `place` is called."""
        return self.passage[self.parts[place]], self.items[place].number


class Waiter:
    """Somebody who waits until `place` commands of a stream are done."""

    __slots__ = ("go_on", "note", "place", "stream")

    def __init__(self, place: int, go_on: Callback, stream: str, note: Callback | None) -> None:
        self.place = place
        self.go_on = go_on
        self.stream = stream
        """The stream that waits; "" for a host."""
        self.note = note
        """Called at once, before anything else happens."""


class Queue:
    """The commands of one stream."""

    def __init__(self, agenda: Agenda, name: str) -> None:
        self.agenda = agenda
        self.name = name
        self.done = 0
        """Commands done since the start."""
        self.issued = 0
        """Commands that the host has released so far; some of them may carry a later instant."""
        self.busy = False
        self.started = 0.0
        self.ends: list[float] = []
        """When each command was done that was not left out."""
        self.left_out: list[LeftOut] = []
        """Where its host stayed behind."""
        self.ahead: list[Ahead] = []
        """Passages with commands left."""
        self._running: Label = (Part(()), 0)
        self._later: tuple[float, Label] | None = None
        self._waiters: list[Waiter] = []
        self._awaited = NO_END
        """The first place that somebody waits for."""

    def append(self, chunk: IssuedPassage) -> None:
        """Append a passage's commands: they start as its pieces are released."""
        self.ahead.append(Ahead(chunk, self.name))

    def reached(self, place: int, go_on: Callback, stream: str = "", note: Callback | None = None) -> None:
        """Have somebody (a stream, or a host) called when `place` commands are done."""
        self._waiters.append(Waiter(place, go_on, stream, note))
        if place < self._awaited:
            self._awaited = place

    @property
    def head(self) -> Command:
        """The stream's next command, or the one that runs."""
        return self.ahead[0].items[self.done - self.ahead[0].start].command

    @property
    def idle(self) -> bool:
        return self.done == self.issued

    @property
    def starts_at(self) -> float:
        """When the stream starts a command that is released but not issued; infinite if it has none, or is at work."""
        if self.busy or self.done == self.issued:
            return inf
        return self.ahead[0].issued(self.done - self.ahead[0].start)

    @property
    def just_left_out(self) -> bool:
        """Whether what was left out last was so at this instant."""
        real = self.agenda.now + self.agenda.skipped
        return bool(self.left_out) and self.left_out[-1].end > real - instant_tolerance(real)

    def reached_at(self, place: int) -> float:
        """When `place` commands were done, which have just been: now, or earlier if that was left out.

        What was done before something was left out, was done where that began at the latest.
        """
        at = self.agenda.now
        for left in reversed(self.left_out):
            if place > left.last:
                break
            at = left.reached(place) - self.agenda.skipped
            if place > left.first:
                break
        return at

    def room(self, moving: Collection[str]) -> int:
        """How many commands may be taken as done before a stream that waits, and does not move, had to go on."""
        places = [waiter.place for waiter in self._waiters if waiter.stream and waiter.stream not in moving]
        return min(places, default=self.done + NO_END) - self.done - 1

    def move_on(self, count: int, moving: Collection[str]) -> None:
        """Take `count` more commands as done; of those who wait, these streams (and hosts: "") move on too."""
        self.done += count
        if "" in moving:
            self.issued += count
        for waiter in self._waiters:
            if waiter.stream in moving:
                waiter.place += count
        if self.busy:
            first = self.ahead[0]
            self._later = (self.agenda.now - instant_tolerance(self.agenda.now), first.label(self.done - first.start))
        self._wake()

    def label_at(self, start: float) -> Label:
        """What a span that starts then is called: one that starts after a skip belongs to what comes after."""
        if self._later is not None and start >= self._later[0]:
            return self._later[1]
        return self._running

    def next_is_copy(self, direction: str) -> bool:
        """Whether the next work after the current one is an issued copy of this direction; records don't count."""
        place, now = self.done + 1, self.agenda.now
        for ahead in self.ahead:
            while place < self.issued and place < ahead.end:
                if ahead.issued(place - ahead.start) > now:
                    return False
                command = ahead.items[place - ahead.start].command
                if not isinstance(command, Record):
                    return isinstance(command, Copy) and command.direction == direction
                place += 1
        return False

    def _wake(self) -> None:
        """Let those go on whose place has been reached."""
        waiters, self._waiters, self._awaited = self._waiters, [], NO_END
        for waiter in waiters:
            if waiter.place <= self.done:
                if waiter.note is not None:
                    waiter.note()
                self.agenda.soon(waiter.go_on)
            else:
                self._waiters.append(waiter)
                self._awaited = min(self._awaited, waiter.place)
