"""Two traces that should be one: track by track, span by span."""

from collections.abc import Iterator, Mapping

from offsim.program.spans import Span

from .walk import Tracks

Found = tuple[list[str], float]
"""What differs, and the largest relative difference of instants."""


def sorted_tracks(spans: Iterator[Span]) -> dict[tuple[int, str], list[Span]]:
    """Spans by rank and track, in order."""
    tracks: dict[tuple[int, str], list[Span]] = {}
    for span in spans:
        tracks.setdefault((span.rank, span.track), []).append(span)
    return {key: sorted(found, key=lambda span: (span.start, span.end)) for key, found in tracks.items()}


def compare_tracks(found: Tracks, expected: Tracks, ranks: Mapping[int, int]) -> Found:
    """`ranks`: rank of the one -> the rank of the other that it should be like."""
    wrong, largest = [], 0.0
    for rank, other in ranks.items():
        tracks = {track for r, track in found if r == rank} | {track for r, track in expected if r == other}
        for track in sorted(tracks):
            one, two = found.get((rank, track), []), expected.get((other, track), [])
            largest = max([largest, *map(differs, one, two)])
            wrong += _first_difference(f"rank {rank} {track}", one, two)
    return wrong, largest


def differs(one: Span, other: Span) -> float:
    """By how much instants differ, as a share."""
    return max(relative(one.start, other.start), relative(one.end, other.end))


def relative(one: float, other: float) -> float:
    """By how much a number of seconds differs from another, as a share of it, or of a millisecond if it is less."""
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


def _first_difference(title: str, one: list[Span], other: list[Span]) -> list[str]:
    for a, b in zip(one, other, strict=False):
        if (a.kind, a.name, a.bytes, a.cause) != (b.kind, b.name, b.bytes, b.cause):
            return [f"{title}: {a} instead of {b}"]
    return [] if len(one) == len(other) else [f"{title}: {len(one)} spans instead of {len(other)}"]
