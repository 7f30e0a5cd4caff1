"""A prediction as a Chrome trace, to look at in Perfetto or chrome://tracing.

One process per simulated rank; one thread per stream, per copy engine, for the host and for the steps.
Counters show the rate of each copy engine and the most device memory in each section: when within it is not
known. Arrows lead from a copy or collective to the kernels that waited for it. Skipped steps are written out.
"""

from bisect import bisect_left
from collections.abc import Iterator
from errno import EEXIST
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from offsim.program.commands import COMPUTE, Allocate, Free, Section, StreamProgram
from offsim.program.spans import Span
from offsim.program.timeline import Timeline
from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import check_replaceable, replacing
from offsim.scenario.scenario import Scenario
from offsim.scenario.wording import file_name

from .memory import Levels
from .predict import Prediction

Event = dict[str, Any]
STEPS_TRACK = "steps"
HOST_TRACK = "host"
ENGINES = ("H2D engine", "D2H engine")
SOURCES = ("H2D", "D2H", "collective")
MOST_COMMANDS = 800_000
"""Commands of all ranks in a trace. 1.5 million took a file of 216 MB, and 1.4 GB of memory while it was made."""
BEGINNING = b'{"displayTimeUnit":'
"""How every trace begins that was written here."""
SAME_INSTANT = 1e-9
"""Seconds within which two instants of a timeline are the same."""


def write_trace(prediction: Prediction, path: Path) -> None:
    """Write the trace as compact JSON; raises OSError where that fails, ScenarioError where it is too long."""
    commands = sum(len(section.commands) for section in prediction.program.sections)
    if commands * len(prediction.timeline.represented) > MOST_COMMANDS:
        raise ScenarioError(
            f"--trace {file_name(path)}: {commands:,} commands on each of {len(prediction.timeline.represented)} "
            f"simulated ranks, where a trace has at most {MOST_COMMANDS:,}: ask for fewer workload.steps"
        )
    with replacing(path) as file:
        file.write(msgspec.json.encode(chrome_trace(prediction)))


def check_trace(path: Path) -> None:
    """Raise OSError if no trace can be written there: another file's name is not taken, a trace's is."""
    check_replaceable(path)
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(BEGINNING)) != BEGINNING:
                raise FileExistsError(EEXIST, "exists and is no trace; choose another name", str(path))


def chrome_trace(prediction: Prediction) -> dict[str, Any]:
    """The trace as plain data: Chrome's JSON object format, times in microseconds."""
    timeline, program = prediction.timeline, prediction.program
    tracks = by_track(program, timeline)
    threads = thread_numbers(tracks)
    events = list(slices(tracks, threads))
    events += rate_counters(tracks)
    events += section_events(prediction.scenario, program, timeline, threads)
    events += arrows(tracks, threads)
    events.sort(key=lambda event: event["ts"])
    return {
        "displayTimeUnit": "ms",
        "otherData": {"scenario": program.name, "total_s": prediction.total},
        "traceEvents": [*track_names(timeline, threads), *events],
    }


Tracks = dict[tuple[int, str], list[Span]]
"""(rank, track) -> spans in order."""


def by_track(program: StreamProgram, timeline: Timeline) -> Tracks:
    """All spans at their real instants by rank and track."""
    tracks: Tracks = {}
    for span in timeline.shifted_spans(program):
        tracks.setdefault((span.rank, span.track), []).append(span)
    for spans in tracks.values():
        spans.sort(key=lambda span: span.start)
    return tracks


def thread_numbers(tracks: Tracks) -> dict[str, int]:
    """Track -> thread number, in the order of display: steps, host, compute, other streams, engines."""
    found = sorted({track for _, track in tracks} - {HOST_TRACK, COMPUTE, *ENGINES})
    order = [STEPS_TRACK, HOST_TRACK, COMPUTE, *found, *ENGINES]
    return {track: number for number, track in enumerate(order, start=1)}


def track_names(timeline: Timeline, threads: dict[str, int]) -> Iterator[Event]:
    """Names and order of processes and threads."""
    for rank, count in sorted(timeline.represented.items()):
        alike = f" (stands for {count} equal ranks)" if count > 1 else ""
        yield _meta("process_name", rank, 0, name=f"rank {rank}{alike}")
        yield _meta("process_sort_index", rank, 0, sort_index=rank)
        for track, thread in threads.items():
            title = track if track in (STEPS_TRACK, HOST_TRACK, *ENGINES) else f"stream {track}"
            yield _meta("thread_name", rank, thread, name=title)
            yield _meta("thread_sort_index", rank, thread, sort_index=thread)


def _meta(what: str, rank: int, thread: int, **args: object) -> Event:
    return {"ph": "M", "name": what, "pid": rank, "tid": thread, "args": args}


def microseconds(instant: float) -> float:
    """An instant in microseconds, to the nanosecond.

    >>> microseconds(1.0000000004)
    1000000.0
    """
    return round(instant * 1e6, 3)


def slices(tracks: Tracks, threads: dict[str, int]) -> Iterator[Event]:
    """Every span as a complete event."""
    for (rank, track), spans in tracks.items():
        for span in spans:
            yield _slice(span.name, span.kind, rank, threads[track], (span.start, span.end), _details(span))


def _slice(name: str, kind: str, rank: int, thread: int, ends: tuple[float, float], args: Event) -> Event:
    start, end = map(microseconds, ends)
    event: Event = {"ph": "X", "name": name, "cat": kind, "pid": rank, "tid": thread, "ts": start}
    event["dur"] = round(end - start, 3)
    if args:
        event["args"] = args
    return event


def _details(span: Span) -> Event:
    """Bytes, rate and delays by culprit, where there are any."""
    args: Event = {}
    if span.bytes:
        args["bytes"] = span.bytes
        args["GB/s"] = round(span.bytes / span.duration / 1e9, 3)
    if span.cause:
        args["waits for"] = span.cause
    for culprit, lost in span.delays:
        args[f"delay by {culprit} [us]"] = microseconds(lost)
    return args


def rate_counters(tracks: Tracks) -> Iterator[Event]:
    """Mean rate of every copy while its engine runs it, 0 in between."""
    for (rank, track), spans in tracks.items():
        if track not in ENGINES:
            continue
        for span, later in zip(spans, [*spans[1:], None], strict=True):
            yield _counter(f"{track} [GB/s]", rank, span.start, round(span.bytes / span.duration / 1e9, 3))
            if later is None or later.start > span.end + SAME_INSTANT:
                yield _counter(f"{track} [GB/s]", rank, span.end, 0.0)


def _counter(name: str, rank: int, instant: float, value: float) -> Event:
    start = microseconds(instant)
    return {"ph": "C", "name": name, "pid": rank, "tid": 0, "ts": start, "args": {"value": value}}


def section_events(
    scenario: Scenario, program: StreamProgram, timeline: Timeline, threads: dict[str, int]
) -> Iterator[Event]:
    """Sections by the host's clock, and the most device memory that each reaches, held from start to end."""
    peaks = section_peaks(scenario, program)
    for rank in timeline.represented:
        windows = timeline.hosts[rank].windows()
        for number, section in enumerate(program.sections):
            yield _slice(section.name, section.use.kind, rank, threads[STEPS_TRACK], windows[number], {})
            yield _counter("most allocated in section [GiB]", rank, windows[number][0], round(peaks[number] / 2**30, 4))


def section_peaks(scenario: Scenario, program: StreamProgram) -> list[float]:
    """The most device memory allocated within each section [bytes]."""
    levels = Levels(scenario.node.host.pinned_rounding)
    return [_peak(section, levels) for section in program.sections]


def _peak(section: Section, levels: Levels) -> float:
    top = levels.device
    for command in section.commands:
        if isinstance(command, Allocate):
            levels.allocate(command)
            top = max(top, levels.device)
        elif isinstance(command, Free):
            levels.free(command)
    return top


def arrows(tracks: Tracks, threads: dict[str, int]) -> Iterator[Event]:
    """Arrows from each copy or collective that the compute stream waited for to what ran after the wait."""
    number = 0
    for (rank, track), spans in tracks.items():
        if track != COMPUTE:
            continue
        for wait, after in pairwise(spans):
            source = _ending_at(tracks.get((rank, wait.cause), []), wait.end) if wait.kind == "wait" else None
            if source is not None and after.kind != "wait":
                number += 1
                yield _arrow("s", number, rank, threads[source.track], _last_instant(source))
                yield _arrow("f", number, rank, threads[track], microseconds(after.start))


def _ending_at(spans: list[Span], instant: float) -> Span | None:
    """The copy or collective of a track that ends at an instant."""
    i = bisect_left(spans, instant - SAME_INSTANT, key=lambda span: span.end)
    if i < len(spans) and spans[i].end <= instant + SAME_INSTANT and spans[i].kind in SOURCES:
        return spans[i]
    return None


def _last_instant(span: Span) -> float:
    """Just before the span's end, so that the arrow belongs to it."""
    start, end = microseconds(span.start), microseconds(span.end)
    return round(max((start + end) / 2, end - 1), 3)


def _arrow(phase: str, number: int, rank: int, thread: int, instant: float) -> Event:
    event: Event = {"ph": phase, "id": number, "name": "awaited", "cat": "dependency"}
    return event | {"pid": rank, "tid": thread, "ts": instant} | ({"bp": "e"} if phase == "f" else {})
