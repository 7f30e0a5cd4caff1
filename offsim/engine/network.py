"""Flows in flight: each has a rate until the set of flows changes, once per instant.

Rates are solved once per distinct set of active classes and remembered. Every flow keeps how long others delayed
it: the integral of (1 - rate / rate alone) dt, split over the flows that use the row that binds it, in proportion
to their use.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from .environment import Alarm, PromptEnvironment
from .fabric import FlowClass, Row
from .fair_share import SharedRow, fair_share

Delays = tuple[tuple[str, float], ...]


class ClassRate(NamedTuple):
    """What one flow of a class gets while a given set of flows is active."""

    rate: float
    delays: Delays
    """(culprit, seconds of delay per second)."""


class Flow:
    """One transfer in flight."""

    __slots__ = ("delays", "finish", "finished", "flow_class", "left", "rate", "since", "unit_delays")

    def __init__(self, flow_class: FlowClass, bytes_: float, finished: Callable[[], object], now: float) -> None:
        self.flow_class = flow_class
        self.left = bytes_
        self.finished = finished
        self.rate = 0.0
        self.since = now
        self.finish = float("inf")
        self.delays: dict[str, float] = {}
        self.unit_delays: Delays = ()

    def advance(self, now: float) -> None:
        """Account for the time since the last change of rate."""
        elapsed = now - self.since
        self.left -= self.rate * elapsed
        for culprit, seconds in self.unit_delays:
            self.delays[culprit] = self.delays.get(culprit, 0.0) + seconds * elapsed
        self.since = now


class Sharing:
    """What every class of flows gets while a given set is active; knows the sets that a start or an end leads to."""

    __slots__ = ("changes", "counts", "rates", "with_more", "with_one_less")

    def __init__(self, counts: dict[int, int]) -> None:
        self.counts = counts
        self.rates: dict[int, ClassRate] | None = None
        self.with_more: dict[tuple[int, ...], Sharing] = {}
        """By the classes that start."""
        self.with_one_less: dict[int, Sharing] = {}
        self.changes: dict[int, frozenset[int]] = {}
        """By identity of the set before: the classes whose rates differ."""


class Network:
    """All flows of the simulated ranks: rates change when a flow starts or ends, once per instant."""

    def __init__(self, env: PromptEnvironment, rows: list[Row], *, contention: bool = True) -> None:
        self.env = env
        self.rows = rows
        self.contention = contention
        self.flows: list[Flow] = []
        self._known: dict[frozenset[tuple[int, int]], Sharing] = {}
        self._classes: dict[int, FlowClass] = {}
        self._active = self._before = self._sharing({})
        self._active.rates = {}
        self._alone: dict[int, float] = {}
        self._companions: dict[object, set[FlowClass]] = {}
        self._change: Alarm | None = None
        self._timer: Alarm | None = None
        self._timer_at = -1.0

    def introduce(self, flow_class: FlowClass) -> None:
        """Say that a class exists before any of its companions starts, so that rates alone are right."""
        self._companions.setdefault(flow_class.companions, set()).add(flow_class)
        self._classes[flow_class.index] = flow_class

    def start(self, flow_class: FlowClass, bytes_: float, finished: Callable[[], object]) -> Flow:
        """A transfer that begins now; `finished` is called when its last byte has arrived."""
        if flow_class.index not in self._classes:
            self.introduce(flow_class)
        index = flow_class.index
        return self.start_all((index,), [Flow(flow_class, bytes_, finished, self.env.now)])[0]

    def start_all(self, classes: tuple[int, ...], flows: list[Flow]) -> list[Flow]:
        """Transfers that begin now, of these classes, which are known."""
        self.flows += flows
        active = self._active.with_more.get(classes)
        if active is None:
            active = self._active.with_more[classes] = self._more(classes)
        self._active = active
        if self._change is None:
            self._change = self.env.alarm(0.0, self._changed)
        return flows

    def _sharing(self, counts: dict[int, int]) -> Sharing:
        """The set with so many flows of each class."""
        key = frozenset(counts.items())
        if key not in self._known:
            self._known[key] = Sharing(counts)
        return self._known[key]

    def _more(self, classes: tuple[int, ...]) -> Sharing:
        counts = dict(self._active.counts)
        for index in classes:
            counts[index] = counts.get(index, 0) + 1
        return self._sharing(counts)

    def _one_less(self, index: int) -> Sharing:
        counts = dict(self._active.counts)
        counts[index] -= 1
        if not counts[index]:
            del counts[index]
        less = self._active.with_one_less[index] = self._sharing(counts)
        return less

    def _changed(self) -> None:
        """Flows have started at this instant."""
        self._change = None
        self._update()

    def _due(self) -> None:
        """The next flow ends now."""
        self._timer = None
        self._update()

    def _update(self) -> None:
        """The set of flows changes: once per instant, except where a flow starts because another one has ended."""
        now = self.env.now
        limit = now + 1e-12 * now + 1e-15
        due = [flow for flow in self.flows if flow.finish <= limit]
        if due:
            self.flows = [flow for flow in self.flows if flow.finish > limit]
            for flow in due:
                flow.advance(now)
                index = flow.flow_class.index
                self._active = self._active.with_one_less.get(index) or self._one_less(index)
        if self.flows:
            self._share(now)
        else:
            self._before = self._active
        for flow in due:
            finished = flow.finished
            del flow.finished  # It knows the flow: together they would wait for the garbage collector.
            finished()

    def _share(self, now: float) -> None:
        """Give every flow the rate of the current set, re-time those whose rate changes, wait for the next to end."""
        active, before = self._active, self._before
        rates = active.rates if active.rates is not None else self._solution(active)
        changed = active.changes.get(id(before))
        if changed is None:
            old = before.rates or {}
            changed = frozenset(index for index, rate in rates.items() if old.get(index) != rate)
            active.changes[id(before)] = changed
        self._before = active
        next_finish = float("inf")
        for flow in self.flows:
            index = flow.flow_class.index
            if index in changed or not flow.rate:
                got = rates[index]
                if flow.rate:
                    flow.advance(now)
                flow.rate, flow.unit_delays = got.rate, got.delays
                flow.finish = now + flow.left / got.rate
            if flow.finish < next_finish:
                next_finish = flow.finish
        if self._timer is None or next_finish != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_at = self.env.alarm(next_finish - now, self._due), next_finish

    def look(self, places: list[object], seconds: list[float]) -> None:
        """Add the flows and the time that each would still need to a state."""
        now = self.env.now
        ordered = sorted(self.flows, key=lambda flow: (flow.flow_class.index, flow.finish))
        places.append([flow.flow_class.index for flow in ordered])
        seconds += [flow.finish - now if flow.rate else flow.left for flow in ordered]

    def _solution(self, active: Sharing) -> dict[int, ClassRate]:
        """Rates by class for a set of active flows."""
        classes = Counter({self._classes[index]: count for index, count in active.counts.items()})
        if self.contention:
            active.rates = self._solve(classes)
        else:
            active.rates = {flow_class.index: ClassRate(self.rate_alone(flow_class), ()) for flow_class in classes}
        return active.rates

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

    def _culprits(
        self, row: int, victim: FlowClass, classes: list[FlowClass], rates: list[float], active: Counter[FlowClass]
    ) -> list[tuple[str, float]]:
        """Who else uses the row that binds a flow, with shares that add up to one."""
        copies = {c.copy_of for c in classes if c.copy_of is not None}
        bound_by = self.rows[row]
        slowing = [(a, s) for a, s in bound_by.slowdowns if bound_by.rank is not None and (bound_by.rank, a) in copies]
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


def shared_rates(rows: list[Row], active: Counter[FlowClass]) -> tuple[list[float], list[int | None], list[int]]:
    """Rates and binding rows of classes (in order of index), and which fabric row each solver row is."""
    classes = sorted(active, key=lambda c: c.index)
    copies = {c.copy_of for c in classes if c.copy_of is not None}
    used: dict[int, list[tuple[int, float]]] = {}
    for i, flow_class in enumerate(classes):
        for row, a in flow_class.usage:
            used.setdefault(row, []).append((i, a * active[flow_class]))
    shared = [SharedRow(_bound(rows[row], copies), tuple(pairs)) for row, pairs in used.items()]
    shares = fair_share([c.weight for c in classes], [c.cap for c in classes], shared)
    return shares.rates, shares.binding, list(used)


def _bound(row: Row, copies: set[tuple[int, str]]) -> float:
    """A row's bound, smaller while an interfering copy is active on its rank."""
    bound = row.bound
    for aggressor, slowdown in row.slowdowns:
        if row.rank is not None and (row.rank, aggressor) in copies:
            bound /= 1 + slowdown
    return bound
