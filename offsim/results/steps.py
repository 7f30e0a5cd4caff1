"""Where each step's time went, read off a timeline.

The compute stream's time in a step is split into disjoint parts: compute, exposed copies, exposed collectives,
contention (what others' use of links and multiprocessors cost) and host-bound (nothing issued). A wait is charged to
what the awaited stream does meanwhile; a delayed copy's contention counts only while somebody waits for it, spread
evenly over the copy. Works on simulated and on measured timelines alike.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from offsim.program.commands import COMPUTE, Collective, Command, Copy, Section, StreamProgram, Template, coarse
from offsim.program.timeline import Span, Timeline

COPY_KINDS = ("H2D", "D2H")
HOST = "host"
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


class Charge(NamedTuple):
    """A line of the stall ledger: in `step`, `waiting` lost `seconds` because of `culprit`."""

    step: int
    waiting: str
    culprit: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepRow:
    """One denoising step on its slowest rank."""

    index: int
    phase: str
    duration: float
    losses: Losses
    h2d_bytes: float
    d2h_bytes: float
    collective_bytes: float
    """Bytes that one rank moves in this step."""


class RankTracks:
    """The spans of one rank by track, for looking up what happened when."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.tracks: dict[str, list[Span]] = {}
        for span in spans:
            self.tracks.setdefault(span.track, []).append(span)
        for track in self.tracks.values():
            track.sort(key=lambda span: span.start)
        self._ends = {name: [span.end for span in track] for name, track in self.tracks.items()}

    def within(self, track: str, start: float, end: float) -> list[Span]:
        """Spans of a track that overlap [start, end)."""
        spans = self.tracks.get(track, [])
        first = bisect_right(self._ends.get(track, []), start)
        found = []
        for span in spans[first:]:
            if span.start >= end:
                break
            found.append(span)
        return found


class Attribution:
    """Charges every instant of a rank's compute stream to a category and a culprit."""

    def __init__(self, tracks: RankTracks) -> None:
        self.tracks = tracks
        self.charges: dict[tuple[str, str], float] = {}
        self.waits: dict[str, float] = {}
        """What the compute stream did or waited for instead of computing, contention apart [s]."""
        self._times = 1

    def window(self, start: float, end: float, times: int = 1) -> Losses:
        """The losses of the compute stream in one window that occurred so many times."""
        self._times = times
        losses = self._track(COMPUTE, start, end, waiting="", seen=())
        return Losses(*(times * seconds for seconds in losses))

    def _track(self, track: str, start: float, end: float, waiting: str, seen: tuple[str, ...]) -> Losses:
        total, at = Losses(), start
        for span in self.tracks.within(track, start, end):
            begin, stop = max(span.start, start), min(span.end, end)
            if begin > at:
                total += self._gap(at, begin, waiting, (*seen, track))
            total += self._span(span, begin, stop, waiting, (*seen, track))
            at = max(at, stop)
        if end > at:
            total += self._gap(at, end, waiting, (*seen, track))
        return total

    def _span(self, span: Span, start: float, end: float, waiting: str, seen: tuple[str, ...]) -> Losses:
        seconds = end - start
        if span.kind == "wait":
            if span.cause in seen:
                return self._host(seconds)
            return self._track(span.cause, start, end, waiting or f"wait for {general(span.name)}", seen)
        lost = 0.0
        if span.delays:
            share = seconds / span.duration
            lost = min(span.contention * share, seconds)
            self._charge(span, share, waiting or _what(span))
        useful = seconds - lost
        if span.kind in COPY_KINDS:
            self._wait(_what(span), useful)
            return Losses(exposed_copy=useful, contention=lost)
        if span.kind in ("collective", "rendezvous"):
            self._wait(_what(span), useful)
            return Losses(exposed_collective=useful, contention=lost)
        return Losses(compute=useful, contention=lost)

    def _charge(self, span: Span, share: float, waiting: str) -> None:
        for culprit, seconds in span.delays:
            key = (waiting, culprit)
            self.charges[key] = self.charges.get(key, 0.0) + seconds * share * self._times

    def _gap(self, start: float, end: float, waiting: str, seen: tuple[str, ...]) -> Losses:
        """Nothing to do: the host's fault, unless the host itself waits for another stream."""
        total, at = Losses(), start
        for blocked in self.tracks.within("host", start, end):
            if blocked.kind != "blocked" or not blocked.cause or blocked.cause in seen:
                continue
            begin, stop = max(blocked.start, at), min(blocked.end, end)
            if stop <= begin:
                continue
            total += self._host(begin - at)
            total += self._track(blocked.cause, begin, stop, waiting or f"host: {blocked.name}", seen)
            at = stop
        return total + self._host(end - at)

    def _host(self, seconds: float) -> Losses:
        self._wait(HOST, seconds)
        return Losses(host_bound=seconds)

    def _wait(self, what: str, seconds: float) -> None:
        if seconds > 0:
            self.waits[what] = self.waits.get(what, 0.0) + seconds * self._times


def general(name: str) -> str:
    """A name without its block number: `transformer.blocks.7 ready` -> `transformer.blocks.* ready`."""
    return re.sub(r"\.\d+", ".*", name)


def _what(span: Span) -> str:
    return f"{span.kind}: {general(span.name)}"


def step_rows(program: StreamProgram, timeline: Timeline) -> list[StepRow]:
    """One row per denoising step, each as its slowest rank saw it."""
    tracks = _tracks(timeline)
    rows: dict[int, tuple[float, Losses]] = {}
    moved = {id(section.commands): traffic(section.commands) for section in _distinct(program)}
    result = []
    for number, section in enumerate(program.sections):
        if section.step is None:
            continue
        recorded = timeline.recorded_section(number)
        if recorded not in rows:
            duration, losses, _ = _slowest(timeline, recorded, tracks)
            rows[recorded] = (duration, losses)
        duration, losses = rows[recorded]
        result.append(StepRow(section.step, section.phase, duration, losses, *moved[id(section.commands)]))
    return result


def _distinct(program: StreamProgram) -> list[Section]:
    """Sections with different tuples of commands: equal consecutive steps share one."""
    return list({id(section.commands): section for section in program.sections}.values())


def _tracks(timeline: Timeline) -> dict[int, RankTracks]:
    by_rank: dict[int, list[Span]] = {rank: [] for rank in timeline.represented}
    for span in timeline.spans:
        by_rank[span.rank].append(span)
    return {rank: RankTracks(spans) for rank, spans in by_rank.items()}


def _slowest(timeline: Timeline, section: int, tracks: dict[int, RankTracks]) -> tuple[float, Losses, Attribution]:
    """The longest step over the ranks, where its time went, and whom that is charged to."""
    durations = {rank: timeline.step_seconds(rank, section) for rank in tracks}
    rank = max(durations, key=lambda r: durations[r])
    attribution = Attribution(tracks[rank])
    losses = attribution.window(*timeline.step_bounds(rank, section))
    for repeat in timeline.repeats_within(section):
        losses += attribution.window(repeat.begin, repeat.after, repeat.times)
    return durations[rank], losses, attribution


def traffic(commands: Sequence[Command]) -> tuple[float, float, float]:
    """(H2D, D2H, collective) bytes that one rank moves with these commands."""
    moved = {"H2D": 0.0, "D2H": 0.0, "collective": 0.0}
    known: dict[int, float] = {}
    for command in coarse(commands):
        if isinstance(command, Template):
            if id(command) not in known:
                known[id(command)] = sum(c.bytes for c in command.commands if isinstance(c, Collective))
            moved["collective"] += known[id(command)]
        elif isinstance(command, Copy):
            moved[command.direction] += command.bytes
        elif isinstance(command, Collective):
            moved["collective"] += command.bytes
    return moved["H2D"], moved["D2H"], moved["collective"]


def ledger(program: StreamProgram, timeline: Timeline) -> list[Charge]:
    """The stall ledger: per step, who waited how long because of whom; largest first within a step."""
    tracks = _tracks(timeline)
    by_section: dict[int, list[Charge]] = {}
    result = []
    for number, section in enumerate(program.sections):
        if section.step is None:
            continue
        recorded = timeline.recorded_section(number)
        if recorded not in by_section:
            _, _, attribution = _slowest(timeline, recorded, tracks)
            ordered = sorted(attribution.charges.items(), key=lambda item: -item[1])
            by_section[recorded] = [Charge(0, waiting, who, seconds) for (waiting, who), seconds in ordered]
        result += [charge._replace(step=section.step) for charge in by_section[recorded] if charge.seconds > 0]
    return result


def waits(program: StreamProgram, timeline: Timeline, index: int) -> dict[str, float]:
    """What the compute stream of the slowest rank waited for in a step, and how long [s]; the longest first.

    `H2D: ...` and `D2H: ...` are copies by the general names of what they move, whether the stream ran them itself,
    waited for them, or stood idle while they kept the host; `host` is idle with nothing issued. They add up to the
    step's exposed copies, exposed collectives and host-bound time.
    """
    number = next(i for i, section in enumerate(program.sections) if section.step == index)
    _, _, attribution = _slowest(timeline, timeline.recorded_section(number), _tracks(timeline))
    return dict(sorted(attribution.waits.items(), key=lambda item: -item[1]))
