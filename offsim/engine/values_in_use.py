"""Which values of a node a prediction rests on: noted where they are read, for what a program really issues.

Setting a run up reads much that it may never need. So some numbers count only together with what they are about: how
much longer a product takes beside a copy counts once one has run beside the other. A rank that is simulated may stand
for others: what is read of its switch and of its socket counts of theirs, too.
"""

from collections.abc import Iterable

from offsim.scenario.node import Node
from offsim.scenario.node_values import node_values, shown_as_quantity
from offsim.scenario.quantity import Curve, Quantity


class ValuesInUse:
    """The values of a node that have been read. A value is known by its identity: one in two places counts in both."""

    def __init__(self) -> None:
        self._read: dict[int, Quantity | Curve] = {}
        self._about: dict[tuple[int, str], Quantity] = {}
        self._occurring: set[str] = set()
        self._together: list[tuple[Quantity, ...]] = []

    def count(self, value: Quantity | Curve) -> None:
        """Say that a value is in use."""
        self._read[id(value)] = value

    def number(self, quantity: Quantity) -> float:
        """The number of a value, which counts from now on."""
        self._read[id(quantity)] = quantity
        return quantity.value

    def at(self, curve: Curve, size: float) -> float:
        """A curve's value at a size; the curve counts from now on."""
        self.count(curve)
        return curve.at(size)

    def number_about(self, quantity: Quantity, subject: str) -> float:
        """The number of a value, which counts if its subject occurs, sooner or later.

        Subjects are classes of kernels, directions of copies, `collective`, and one beside another (see
        interference.beside).
        """
        self._about[id(quantity), subject] = quantity
        return quantity.value

    def occurs(self, subject: str) -> None:
        """Say that there are such kernels, copies or collectives, or such a meeting of them."""
        self._occurring.add(subject)

    def count_together(self, quantities: Iterable[Quantity]) -> None:
        """Say that all of these count if one of them does: each is to a rank what the others are to ranks like it."""
        self._together.append(tuple(quantities))

    def of(self, node: Node) -> list[tuple[str, Quantity]]:
        """What of a node has been read, as (key, value) in the node's order; a curve with its largest value."""
        counting = self._counting()
        return [(key, shown_as_quantity(value)) for key, value in node_values(node) if id(value) in counting]

    def _counting(self) -> set[int]:
        counting = set(self._read)
        counting.update(key for key, subject in self._about if subject in self._occurring)
        for alike in self._together:
            if any(id(value) in counting for value in alike):
                counting.update(id(value) for value in alike)
        return counting
