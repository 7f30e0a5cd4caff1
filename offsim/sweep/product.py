"""Which points of the axes make a grid's combinations: positions only, so that many cost little.

The last axis varies fastest. Draws of a sample vary where the first of the drawn axes stands, and every other
axis is crossed with each draw.
"""

from array import array
from collections.abc import Iterator, Sequence
from functools import reduce
from math import prod
from typing import Any

from offsim.scenario.faults import Place

from .axis import NAMED_BY, NOT_SET, Axis, When
from .overlay import Table, overlay
from .ranges import MOST

Positions = tuple[int, ...]


class Products:
    """The positions on the axes of every combination, in the grid's order."""

    def __init__(self, base: Table, axes: Sequence[Axis], place: Place) -> None:
        self._base, self._axes = base, axes
        self._drawn = [i for i, axis in enumerate(axes) if axis.drawn]
        self._deciding = _deciding(base, axes, place)
        self._known: dict[tuple[int, Positions], tuple[int, ...]] = {}
        self._firsts = [_firsts(axis) for axis in axes]

    def positions(self, place: Place) -> "array[int]":
        """Positions of all combinations, one after the other: as many numbers for each as there are axes."""
        conditional = any(axis.conditions != ((),) for axis in self._axes)
        most = prod(len(axis) for i, axis in enumerate(self._axes) if i not in self._drawn[1:])
        if most > MOST and not conditional:
            raise place.fault(f"{most:,} combinations; at most {MOST:,}")
        found, seen = array("i"), set[Positions]()
        for walked, combination in enumerate(self._walk((), None)):
            if walked == MOST:
                raise place.fault(f"more than {MOST:,} combinations")
            if self._drawn:  # Draws can coincide: of integers, or where what they set does not apply.
                if combination in seen:
                    continue
                seen.add(combination)
            found.extend(combination)
        return found

    def _walk(self, chosen: Positions, draw: int | None) -> Iterator[Positions]:
        """Every way to go on from the positions chosen on the first axes."""
        depth = len(chosen)
        if depth == len(self._axes):
            yield chosen
        elif depth in self._drawn:
            existing, first = self._existing(chosen), self._firsts[depth]
            for number in range(len(self._axes[depth])) if draw is None else (draw,):
                position = NOT_SET if existing == (NOT_SET,) else first[number]
                yield from self._walk((*chosen, position), number)
        else:
            for position in self._existing(chosen):
                yield from self._walk((*chosen, position), draw)

    def _existing(self, chosen: Positions) -> tuple[int, ...]:
        """The positions on the next axis that exist there."""
        depth = len(chosen)
        deciding = tuple(chosen[i] for i in self._deciding[depth])
        key = (depth, deciding)
        if key not in self._known:
            self._known[key] = self._decide(depth, deciding)
        return self._known[key]

    def _decide(self, depth: int, deciding: Positions) -> tuple[int, ...]:
        axis = self._axes[depth]
        if axis.conditions == ((),):
            return tuple(range(len(axis)))
        points = (self._axes[i].point(at) for i, at in zip(self._deciding[depth], deciding, strict=True))
        document = reduce(overlay, (point.overrides for point in points), self._base)
        if not axis.tables:
            return tuple(range(len(axis))) if _holds(axis.when, document) else (NOT_SET,)
        return tuple(i for i, point in enumerate(axis.tables) if _holds(point.when, document)) or (NOT_SET,)


def _firsts(axis: Axis) -> list[int]:
    """Per value of a drawn axis the position at which it comes first."""
    first: dict[Any, int] = {}
    return [first.setdefault(value, i) for i, value in enumerate(axis.values)] if axis.drawn else []


def _deciding(base: Table, axes: Sequence[Axis], place: Place) -> list[list[int]]:
    """Per axis the earlier ones that set what its conditions ask for; someone must set each."""
    return [
        sorted({i for key in _asked(axis) for i in _setting(key, base, axes, depth, place)})
        for depth, axis in enumerate(axes)
    ]


def _asked(axis: Axis) -> list[str]:
    return sorted({key for when in axis.conditions for key, _ in when})


def _setting(key: str, base: Table, axes: Sequence[Axis], depth: int, place: Place) -> list[int]:
    section = key.split(".")[0]
    names = {key, section} if NAMED_BY.get(section) == key else {key}
    setting = [i for i, axis in enumerate(axes) if axis.keys & names]
    here = place.child(axes[depth].name).child("when")
    late = next((i for i in setting if i >= depth), None)
    if late is not None:
        raise here.fault(f"{key} is set by axes.{axes[late].name}, which must come before")
    if not setting and _lookup(key, base) is None:
        raise here.fault(f"nothing sets {key}: neither [scenario] nor an axis before this one")
    # Another name replaces a whole table, and with it the key.
    return [i for i in range(depth) if section in axes[i].sections]


def _holds(when: When, document: Table) -> bool:
    return all(_lookup(key, document) in wanted for key, wanted in when)


def _lookup(key: str, document: Table) -> Any:
    """A dotted key's value in a document; None if it is not there."""
    section, *rest = key.split(".")
    value: Any = document.get(section)
    if isinstance(value, str):
        return value if NAMED_BY.get(section) == key else None
    for name in rest:
        value = value.get(name) if isinstance(value, dict) else None
    return value
