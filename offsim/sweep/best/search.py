"""The search: every candidate is either timed, or cannot win whatever its time is.

Times count in steps of `SAME` above the least bound, so that what nobody could tell apart is a tie. Two kinds of
candidates win: of each group the one of least time (of ties: least memory, then first), and of each model the front of
time against memory (nobody else has as little of both). A candidate whose lower bound shows that it wins neither is
pruned; the one with the least bound is looked at first, so that good times are known early. Some may be timed at once:
then a few more than one by one, and the winners are the same.
"""

from collections.abc import Callable, Hashable, Sequence
from heapq import heapify, heappop, heappush
from math import floor, log
from typing import NamedTuple

from ..panels import SAME

LazySeconds = Callable[[], float]
EXACT = 1e-9
"""Relative error of a bound that rounding may make."""


class SearchEntry(NamedTuple):
    """A candidate as the search sees it; its place in the list is its number."""

    group: Hashable
    """Among whom it may be the best."""
    model: Hashable
    """Among whom it may be on the front: those that compute the same."""
    memory: float
    bounds: tuple[LazySeconds, ...]
    """Lower bounds of its time, the cheapest to compute first."""
    time: LazySeconds


SearchKey = tuple[int, float, int]
"""Time in steps, memory, number: less is better."""


class Searched(NamedTuple):
    """What a search found."""

    times: dict[int, float]
    """Times of the candidates that were timed [s], by number."""
    winners: dict[Hashable, SearchKey]
    """The best of each group."""
    fronts: dict[Hashable, list[int]]
    """The front of each model, from the least memory to the least time."""
    pruned: int


class Scale:
    """Times in steps above a least one."""

    def __init__(self, least: float) -> None:
        self.least = least

    def steps(self, seconds: float) -> int:
        """Whole steps; times of one step count as equal."""
        return floor(log(seconds / self.least) / log(1 + SAME))


class BestSoFar:
    """The best that is known so far."""

    def __init__(self) -> None:
        self.groups: dict[Hashable, SearchKey] = {}
        self.fronts: dict[Hashable, list[SearchKey]] = {}

    def beats(self, entry: SearchEntry, key: SearchKey) -> bool:
        """Whether nothing that is no better than `key` can win."""
        best = self.groups.get(entry.group)
        front = self.fronts.get(entry.model, [])
        return best is not None and best < key and any(_dominates(other, key) for other in front)

    def add(self, entry: SearchEntry, key: SearchKey) -> None:
        """Take note of a candidate's true key."""
        self.groups[entry.group] = min(key, self.groups.get(entry.group, key))
        front = self.fronts.setdefault(entry.model, [])
        if not any(_dominates(other, key) for other in front):
            self.fronts[entry.model] = [other for other in front if not _dominates(key, other)] + [key]


def _dominates(one: SearchKey, other: SearchKey) -> bool:
    """Whether one takes as little time and memory as another; of equal ones the first does."""
    return one[0] <= other[0] and one[1] <= other[1] and one < other


def one_by_one(entries: Sequence[SearchEntry]) -> list[float]:
    """The times of entries, one after the other."""
    return [entry.time() for entry in entries]


def search(
    entries: Sequence[SearchEntry],
    settled: Callable[[bool], None] = lambda _: None,
    timed: Callable[[Sequence[SearchEntry]], list[float]] = one_by_one,
    at_once: int = 1,
) -> Searched:
    """Time what may win; `settled` hears of every candidate once, and whether it was timed.

    `timed` times up to `at_once` candidates.
    """
    first = [entry.bounds[0]() for entry in entries]
    scale, standing, times = Scale(min(first, default=1.0)), BestSoFar(), dict[int, float]()
    waiting: list[tuple[int, float, int, int]] = [(*_key(scale, entries, i, bound), 1) for i, bound in enumerate(first)]
    heapify(waiting)
    while waiting:
        batch: list[int] = []
        while waiting and len(batch) < at_once:
            steps, memory, number, stage = heappop(waiting)
            entry, key = entries[number], (steps, memory, number)
            if standing.beats(entry, key):
                settled(False)
            elif stage < len(entry.bounds):
                later = _key(scale, entries, number, entry.bounds[stage]())
                heappush(waiting, (*max(key, later), stage + 1))
            else:
                batch.append(number)
        for number, seconds in zip(batch, timed([entries[number] for number in batch]), strict=True):
            times[number] = seconds
            standing.add(entries[number], (scale.steps(seconds), entries[number].memory, number))
            settled(True)
    fronts = {
        model: [number for _, _, number in sorted(front, key=lambda key: key[1])]
        for model, front in standing.fronts.items()
    }
    return Searched(times, standing.groups, fronts, len(entries) - len(times))


def _key(scale: Scale, entries: Sequence[SearchEntry], number: int, bound: float) -> SearchKey:
    return scale.steps(bound * (1 - EXACT)), entries[number].memory, number
