"""Where one forward's time went, by torch's profiler: kernels, copies, and the calls in which the host waited.

Busy times are of unions of intervals, so that kernels side by side count once. Left out: which wait held up which
kernel, and what the profiler itself costs the host.
"""

import time
from collections.abc import Iterable
from typing import Any

import torch

Interval = tuple[float, float]
MOST_TRACED_NAMES = 30


def traced(bench: Any, forward: Any) -> dict[str, Any]:
    """Sums of one forward's kernels, copies and calls [s]; the error if the profiler fails."""
    if not bench.on_gpu:
        return {}
    try:
        activities = [torch.profiler.ProfilerActivity.CUDA]
        bench.synchronize()
        with torch.profiler.profile(activities=activities) as profiler:
            begin = time.perf_counter()
            forward()
            issued = time.perf_counter() - begin
            bench.synchronize()
            wall = time.perf_counter() - begin
        return {"wall_s": wall, "issued_s": issued} | trace_summary(_events(profiler))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


def _events(profiler: Any) -> list[tuple[str, bool, float, float]]:
    """(name, on the device, start, end) of everything that was recorded [s]."""
    found = []
    for event in profiler.profiler.kineto_results.events():
        start = event.start_ns() / 1e9
        on_device = str(event.device_type()).endswith("CUDA")
        found.append((event.name(), on_device, start, start + event.duration_ns() / 1e9))
    return found


def trace_summary(events: list[tuple[str, bool, float, float]]) -> dict[str, Any]:
    """Busy seconds by kind, overlaps, and the names that took longest with how often they came."""
    device = [event for event in events if event[1]]
    kinds: dict[str, list[Interval]] = {"kernels": [], "H2D": [], "D2H": []}
    for name, _, start, end in device:
        kind = "H2D" if "HtoD" in name else "D2H" if "DtoH" in name else None
        if kind is None and not name.startswith(("Memset", "Memcpy")):
            kind = "kernels"
        if kind is not None:
            kinds[kind].append((start, end))
    unions = {kind: union(intervals) for kind, intervals in kinds.items()}
    everything = [(start, end) for _, _, start, end in device]
    span = max((e for _, e in everything), default=0.0) - min((s for s, _ in everything), default=0.0)
    return {
        "device_span_s": span,
        "busy_s": {kind: length(found) for kind, found in unions.items()},
        "kernels_beside_H2D_s": common(unions["kernels"], unions["H2D"]),
        "any_s": length(union(everything)),
        "device": by_name(device),
        "host": by_name([event for event in events if not event[1]]),
    }


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Disjoint intervals that cover the same.

    >>> union([(0, 2), (1, 3), (5, 6)])
    [(0, 3), (5, 6)]
    """
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def length(intervals: list[Interval]) -> float:
    """The summed length of disjoint intervals."""
    return sum(end - start for start, end in intervals)


def common(one: list[Interval], other: list[Interval]) -> float:
    """How long two unions last at once.

    >>> common([(0, 2), (4, 6)], [(1, 5)])
    2
    """
    return length(one) + length(other) - length(union([*one, *other]))


def by_name(events: list[tuple[str, bool, float, float]]) -> list[tuple[str, int, float]]:
    """Name, count and seconds of the events of each name, the longest first."""
    sums: dict[str, tuple[int, float]] = {}
    for name, _, start, end in events:
        count, seconds = sums.get(name, (0, 0.0))
        sums[name] = (count + 1, seconds + end - start)
    ordered = sorted(sums.items(), key=lambda item: -item[1][1])
    return [(name[:120], count, seconds) for name, (count, seconds) in ordered[:MOST_TRACED_NAMES]]
