"""Who gets what while a given set of flows is active, and who delays whom.

The rates are those of fair_share over the rows of a fabric. A flow's loss against its rate alone (with only the other
transfers of its collective around) is charged to the flows that use the row that binds it, in proportion to their use.
"""

from collections import Counter
from typing import NamedTuple

from .fabric import FabricConstraint, FlowClass
from .fair_share import SharedRow, fair_share
from .interference import beside
from .values_in_use import ValuesInUse

Delays = tuple[tuple[str, float], ...]


class ClassRate(NamedTuple):
    """What one flow of a class gets while a given set of flows is active."""

    rate: float
    delays: Delays
    """(culprit, seconds of delay per second)."""


class Rates:
    """The rates of any set of flows over the rows of one fabric."""

    def __init__(self, rows: list[FabricConstraint], values: ValuesInUse, *, contention: bool) -> None:
        self.rows, self._values = rows, values
        self.contention = contention
        self._classes: dict[int, FlowClass] = {}
        self._alone: dict[int, float] = {}
        self._companions: dict[object, set[FlowClass]] = {}

    def introduce(self, flow_class: FlowClass) -> None:
        """Say that a class exists before any of its companions starts, so that rates alone are right."""
        if flow_class.index not in self._classes:
            self._companions.setdefault(flow_class.companions, set()).add(flow_class)
            self._classes[flow_class.index] = flow_class

    def flow_class(self, index: int) -> FlowClass:
        """An introduced class by its index."""
        return self._classes[index]

    def of(self, counts: dict[int, int]) -> dict[int, ClassRate]:
        """Rates by class, of a set with so many flows of each class."""
        classes = Counter({self._classes[index]: count for index, count in counts.items()})
        if self.contention:
            return self._solve(classes)
        return {flow_class.index: ClassRate(self.rate_alone(flow_class), ()) for flow_class in classes}

    def rate_alone(self, flow_class: FlowClass) -> float:
        """The rate with only its companions around: the other transfers of the same collective."""
        if flow_class.alone is not None:
            return flow_class.alone
        if flow_class.index not in self._alone:
            together = self._companions.get(flow_class.companions, {flow_class})
            classes = sorted(together | {flow_class}, key=lambda c: c.index)
            rates, _, _ = shared_rates(self.rows, Counter(classes))
            for other, rate in zip(classes, rates, strict=True):
                self._alone[other.index] = rate
        return self._alone[flow_class.index]

    def _solve(self, active: Counter[FlowClass]) -> dict[int, ClassRate]:
        rates, binding, rows = shared_rates(self.rows, active)
        classes = sorted(active, key=lambda c: c.index)
        self._meet(classes)
        solved = {}
        for i, flow_class in enumerate(classes):
            lost = 1 - rates[i] / self.rate_alone(flow_class)
            bound_by = binding[i]
            delays: Delays = ()
            if lost > 1e-12 and bound_by is not None:
                row = rows[bound_by]
                delays = tuple(
                    (who, lost * share) for who, share in self._culprits(row, flow_class, classes, rates, active)
                )
            solved[flow_class.index] = ClassRate(rates[i], delays)
        return solved

    def _meet(self, classes: list[FlowClass]) -> None:
        """These are active together: what slows any of them beside another counts from now on."""
        there = {active for c in classes for active in c.active_as}
        for flow_class in classes:
            for number, _ in flow_class.usage:
                row = self.rows[number]
                for aggressor, _ in row.slowdowns:
                    if row.rank is not None and (row.rank, aggressor) in there:
                        self._values.occurs(beside(flow_class.label, aggressor))

    def _culprits(
        self, row: int, victim: FlowClass, classes: list[FlowClass], rates: list[float], active: Counter[FlowClass]
    ) -> list[tuple[str, float]]:
        """Who else uses the row that binds a flow, with shares that add up to one."""
        there = {active for c in classes for active in c.active_as}
        bound_by = self.rows[row]
        slowing = [(a, s) for a, s in bound_by.slowdowns if bound_by.rank is not None and (bound_by.rank, a) in there]
        if slowing:
            total = sum(slowdown for _, slowdown in slowing)
            return [(f"{aggressor} interference", slowdown / total) for aggressor, slowdown in slowing]
        use: dict[str, float] = {}
        for flow_class, rate in zip(classes, rates, strict=True):
            foreign = dict(flow_class.usage).get(row, 0.0)
            if flow_class.companions == victim.companions:
                foreign -= dict(flow_class.own or flow_class.usage).get(row, 0.0)
            if foreign > 0:
                use[flow_class.label] = use.get(flow_class.label, 0.0) + foreign * rate * active[flow_class]
        total = sum(use.values())
        return [(who, part / total) for who, part in use.items() if part > 0] if total > 0 else [("itself", 1.0)]


def shared_rates(
    rows: list[FabricConstraint], active: Counter[FlowClass]
) -> tuple[list[float], list[int | None], list[int]]:
    """Rates and binding rows of classes (in order of index), and which fabric row each solver row is."""
    classes = sorted(active, key=lambda c: c.index)
    there = {active for c in classes for active in c.active_as}
    used: dict[int, list[tuple[int, float]]] = {}
    for i, flow_class in enumerate(classes):
        for row, a in flow_class.usage:
            used.setdefault(row, []).append((i, a * active[flow_class]))
    shared = [SharedRow(_bound(rows[row], there), tuple(pairs)) for row, pairs in used.items()]
    shares = fair_share([c.weight for c in classes], [c.cap for c in classes], shared)
    return shares.rates, shares.binding, list(used)


def _bound(row: FabricConstraint, there: set[tuple[int, str]]) -> float:
    """A row's bound, smaller while an interfering copy or collective is active on its rank."""
    bound = row.bound
    for aggressor, slowdown in row.slowdowns:
        if row.rank is not None and (row.rank, aggressor) in there:
            bound /= 1 + slowdown
    return bound
