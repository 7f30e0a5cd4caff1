"""To what each instant of a rank's compute stream is charged, read off a timeline.

The compute stream's time in a section is split into disjoint parts: compute, exposed copies, exposed collectives,
contention (what others' use of links and multiprocessors cost) and host-bound (nothing issued). A wait is charged to
what the awaited stream does meanwhile; a delayed copy's contention counts only while somebody waits for it, spread
evenly over the copy. Works on simulated and on measured timelines alike.
"""

import re
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from offsim.engine.sharing import Delays
from offsim.program.commands import COMPUTE
from offsim.program.spans import JournalRow

COPY_KINDS = ("H2D", "D2H")
NOTHING_ISSUED = "host"
"""Among waits: nothing was issued."""


class Losses(NamedTuple):
    """Seconds by category; they add up to the window."""

    compute: float = 0.0
    exposed_copy: float = 0.0
    exposed_collective: float = 0.0
    contention: float = 0.0
    host_bound: float = 0.0

    def __add__(self, other: tuple[float, ...]) -> "Losses":  # type: ignore[override]
        a, b, c, d, e = other
        return Losses(self[0] + a, self[1] + b, self[2] + c, self[3] + d, self[4] + e)


class RankTracks:
    """The spans of one rank by track, for looking up what happened when."""

    def __init__(self) -> None:
        self.tracks: dict[str, list[JournalRow]] = {}
        self._starts: dict[str, list[float]] = {}
        self._ends: dict[str, list[float]] = {}

    def add(self, row: JournalRow) -> None:
        """Add a span; all before any is looked up."""
        self.tracks.setdefault(row[0][1], []).append(row)

    def within(self, track: str, start: float, end: float) -> list[JournalRow]:
        """Spans of a track that overlap [start, end)."""
        if track not in self.tracks:
            return []
        if track not in self._ends:
            rows = self.tracks[track]
            rows.sort(key=_start)
            self._starts[track], self._ends[track] = [row[3] for row in rows], [row[4] for row in rows]
        return self.tracks[track][bisect_right(self._ends[track], start) : bisect_left(self._starts[track], end)]


def _start(row: JournalRow) -> float:
    return row[3]


class Attribution:
    """Charges every instant of a rank's compute stream to a category and a culprit.

    Names are only looked up when somebody asks for `charges` or `waits`.
    """

    def __init__(self, tracks: RankTracks) -> None:
        self.tracks = tracks
        self._times = 1
        self._charged: list[tuple[JournalRow, Delays, float]] = []
        """(who waited, for whom; how long others held that up; part of it)."""
        self._waited: list[tuple[JournalRow | None, float]] = []
        """(work, or None for the host; seconds)."""
        self._compute = self._copy = self._collective = self._contention = self._host = 0.0

    @property
    def charges(self) -> dict[tuple[str, str], float]:
        """Seconds by (waiting, culprit)."""
        found: dict[tuple[str, str], float] = {}
        for waiting, delays, share in self._charged:
            for culprit, seconds in delays:
                key = (_waiting(waiting), culprit)
                found[key] = found.get(key, 0.0) + seconds * share
        return found

    @property
    def waits(self) -> dict[str, float]:
        """What the compute stream did or waited for instead of computing, contention apart [s]."""
        found: dict[str, float] = {}
        for row, seconds in self._waited:
            what = NOTHING_ISSUED if row is None else _what(row)
            found[what] = found.get(what, 0.0) + seconds
        return found

    def window(self, start: float, end: float, times: int = 1) -> Losses:
        """The losses of the compute stream in one window that occurred so many times."""
        self._times = times
        self._compute = self._copy = self._collective = self._contention = self._host = 0.0
        self._track(COMPUTE, start, end, None, ())
        found = (self._compute, self._copy, self._collective, self._contention, self._host)
        return Losses(*(times * seconds for seconds in found))

    def _track(self, track: str, start: float, end: float, waiting: JournalRow | None, seen: tuple[str, ...]) -> None:
        at, seen = start, (*seen, track)
        for row in self.tracks.within(track, start, end):
            begin, stop = max(row[3], start), min(row[4], end)
            if begin > at:
                self._gap(at, begin, waiting, seen)
            self._span(row, begin, stop, waiting, seen)
            at = max(at, stop)
        if end > at:
            self._gap(at, end, waiting, seen)

    def _span(
        self, row: JournalRow, start: float, end: float, waiting: JournalRow | None, seen: tuple[str, ...]
    ) -> None:
        (_, _, kind, cause), seconds = row[0], end - start
        if kind == "wait":
            if cause in seen:
                self._idle(seconds)
            else:
                self._track(cause, start, end, waiting or row, seen)
            return
        if row[6]:
            seconds -= self._delayed(row, seconds, waiting or row)
        if kind in COPY_KINDS:
            self._copy += seconds
        elif kind in ("collective", "rendezvous"):
            self._collective += seconds
        else:
            self._compute += seconds
            return
        if seconds > 0:
            self._waited.append((row, seconds * self._times))

    def _delayed(self, row: JournalRow, seconds: float, waiting: JournalRow) -> float:
        """How many of these seconds of a span others cost."""
        _, _, _, start, end, _, delayed = row
        delays = delayed if isinstance(delayed, tuple) else delayed.delays()
        share = seconds / (end - start)
        lost = min(sum([by for _, by in delays]) * share, seconds)
        self._charged.append((waiting, delays, share * self._times))
        self._contention += lost
        return lost

    def _gap(self, start: float, end: float, waiting: JournalRow | None, seen: tuple[str, ...]) -> None:
        """Nothing to do: the host's fault, unless the host itself waits for another stream."""
        at = start
        for blocked in self.tracks.within("host", start, end):
            _, _, kind, cause = blocked[0]
            if kind != "blocked" or not cause or cause in seen:
                continue
            begin, stop = max(blocked[3], at), min(blocked[4], end)
            if stop <= begin:
                continue
            self._idle(begin - at)
            self._track(cause, begin, stop, waiting or blocked, seen)
            at = stop
        self._idle(end - at)

    def _idle(self, seconds: float) -> None:
        """Nothing was issued."""
        self._host += seconds
        if seconds > 0:
            self._waited.append((None, seconds * self._times))


def general(name: str) -> str:
    """A name without its block number: `transformer.blocks.7 ready` -> `transformer.blocks.* ready`."""
    return re.sub(r"\.\d+", ".*", name)


def _name(row: JournalRow) -> str:
    return row[1].name_at(row[2])


def _what(row: JournalRow) -> str:
    return f"{row[0][2]}: {general(_name(row))}"


def _waiting(row: JournalRow) -> str:
    """Who waited: a stream for an event, the host for a stream, or what was held up itself."""
    kind = row[0][2]
    if kind == "wait":
        return f"wait for {general(_name(row))}"
    return f"host: {_name(row)}" if kind == "blocked" else _what(row)
