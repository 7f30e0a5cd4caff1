"""Flows in flight: each has a rate until the set of flows changes, once per instant.

Flows that start together with equally many bytes, and have had the same rates since, are one batch: it is timed as a
whole and falls apart where their rates part. Rates are solved once per distinct set of active classes and remembered,
and so is which set a start or an end leads to. How long others delayed a flow is the integral of
(1 - rate / rate alone) dt, split over the flows that use the row that binds it, in proportion to their use; it is
worked out when somebody reads it.
"""

from math import inf
from typing import Protocol

from .agenda import Agenda, Alarm, cancel
from .fabric import FabricConstraint
from .sharing import ClassRate, Delays, Rates
from .values_in_use import ValuesInUse


class Classes:
    """Classes of flows that may be in one batch: one object for the same ones, so that looking it up is quick."""

    __slots__ = ("indices",)

    def __init__(self, indices: tuple[int, ...]) -> None:
        self.indices = indices


class BatchRate:
    """What the flows of a batch get while a given set is active: all the same rate."""

    __slots__ = ("classes", "delayed", "delays", "rate")

    def __init__(self, classes: Classes, rate: float, delays: tuple[Delays, ...]) -> None:
        self.classes = classes
        self.rate = rate
        self.delays = delays
        """Delays of a flow, by class."""
        self.delayed = any(delays)


class FlowOwner(Protocol):
    """Whoever started flows."""

    def ended(self, batch: "Batch") -> None:
        """Take note that the last byte of these has arrived."""
        ...


class Batch:
    """Flows that started together and go at one rate."""

    __slots__ = ("classes", "finish", "history", "left", "owner", "share", "since")

    def __init__(self, classes: Classes, bytes_: float, owner: FlowOwner | None, now: float) -> None:
        self.classes = classes
        self.left = bytes_
        """Bytes of each flow."""
        self.owner = owner
        self.share: BatchRate | None = None
        self.since = now
        self.finish = inf
        self.history: tuple[tuple[BatchRate, float], ...] = ()
        """What it got, for how many seconds, where somebody delayed it."""

    def advance(self, now: float) -> None:
        """Account for the time since the last change of rate."""
        elapsed, share = now - self.since, self.share
        if share is not None and elapsed > 0:
            self.left -= share.rate * elapsed
            if share.delayed:
                self.history = (*self.history, (share, elapsed))
        self.since = now

    def part(self, classes: Classes) -> "Batch":
        """A batch of some of the flows, as far as they are."""
        part = Batch(classes, self.left, self.owner, self.since)
        part.share, part.history = self.share, self.history
        return part

    def delays(self, index: int = -1) -> Delays:
        """How long whom held up the batch's flow of a class (its only one, unless told)."""
        total: dict[str, float] = {}
        index = self.classes.indices[0] if index < 0 else index
        for share, elapsed in self.history:
            for culprit, seconds in share.delays[share.classes.indices.index(index)]:
                total[culprit] = total.get(culprit, 0.0) + seconds * elapsed
        return tuple(total.items())


class Sharing:
    """What every batch gets while a given set of flows is active; knows the sets that a start or an end leads to."""

    __slots__ = ("counts", "rates", "shares", "with_less", "with_more")

    def __init__(self, counts: dict[int, int]) -> None:
        self.counts = counts
        self.rates: dict[int, ClassRate] = {}
        self.with_more: dict[Classes, Sharing] = {}
        """The shares once flows of more classes have started, by these."""
        self.with_less: dict[Classes, Sharing] = {}
        """The shares once flows of some classes have ended, by these."""
        self.shares: dict[Classes, tuple[BatchRate, ...]] = {}
        """What batches get, by their classes: one rate, or one for each part that a batch falls into."""


class Network:
    """All flows of the simulated ranks: rates change when a flow starts or ends, once per instant."""

    def __init__(
        self,
        agenda: Agenda,
        rows: list[FabricConstraint],
        *,
        contention: bool = True,
        values: ValuesInUse | None = None,
    ) -> None:
        self.agenda = agenda
        self.rates = Rates(rows, values or ValuesInUse(), contention=contention)
        self.batches: list[Batch] = []
        self._starting: list[Batch] = []
        """Those that start at this instant."""
        self._classes: dict[tuple[int, ...], Classes] = {}
        self._together: dict[tuple[Classes, Classes], Classes] = {}
        self._known: dict[frozenset[tuple[int, int]], Sharing] = {}
        self._shares: dict[tuple[Classes, float, tuple[Delays, ...]], BatchRate] = {}
        self._active = self._sharing({})
        self._timer: Alarm | None = None
        self._timer_at = -1.0

    @property
    def busy(self) -> bool:
        """Whether any flow is in flight."""
        return bool(self.batches or self._starting)

    def classes(self, indices: tuple[int, ...]) -> Classes:
        """Classes by index, one object for the same ones."""
        found = self._classes.get(indices)
        if found is None:
            found = self._classes[indices] = Classes(indices)
        return found

    def start(self, classes: Classes, bytes_: float, owner: FlowOwner) -> Batch:
        """Begin transfers of so many bytes each now, of these classes, which have been introduced.

        `owner` is told of each part of the batch whose last byte has arrived.
        """
        starting = self._starting
        if not starting:
            self.agenda.at_last(self._started)
        elif starting[-1].owner is owner and starting[-1].left == bytes_:
            batch = starting[-1]
            batch.classes = self._joined(batch.classes, classes)
            return batch
        batch = Batch(classes, bytes_, owner, self.agenda.now)
        starting.append(batch)
        return batch

    def _joined(self, one: Classes, other: Classes) -> Classes:
        joined = self._together.get((one, other))
        if joined is None:
            joined = self._together[one, other] = self.classes(one.indices + other.indices)
        return joined

    def _started(self) -> None:
        """Flows have started at this instant."""
        starting, self._starting = self._starting, []
        self.batches += starting
        active = self._active
        for batch in starting:
            active = active.with_more.get(batch.classes) or self._leads_to(active, batch.classes, +1)
        self._active = active
        self._update()

    def _leads_to(self, active: Sharing, classes: Classes, by: int) -> Sharing:
        """The set with one flow more, or less, of each of these classes."""
        counts = dict(active.counts)
        for index in classes.indices:
            counts[index] = counts.get(index, 0) + by
            if not counts[index]:
                del counts[index]
        found = self._sharing(counts)
        (active.with_more if by > 0 else active.with_less)[classes] = found
        return found

    def _sharing(self, counts: dict[int, int]) -> Sharing:
        """The set with so many flows of each class."""
        key = frozenset(counts.items())
        if key not in self._known:
            self._known[key] = Sharing(counts)
        return self._known[key]

    def _due(self) -> None:
        """The next flow ends now."""
        self._timer = None
        self._update()

    def _update(self) -> None:
        """The set of flows changes: once per instant, except where a flow starts because another one has ended."""
        now = self.agenda.now
        limit = now + 1e-12 * now + 1e-15
        due: list[Batch] = []
        if self._timer_at <= limit:
            due = [batch for batch in self.batches if batch.finish <= limit]
        if due:
            self.batches = [batch for batch in self.batches if batch.finish > limit]
            active = self._active
            for batch in due:
                batch.advance(now)
                active = active.with_less.get(batch.classes) or self._leads_to(active, batch.classes, -1)
            self._active = active
        if self.batches:
            self._share(now)
        for batch in due:
            owner, batch.owner = batch.owner, None  # Whoever keeps a batch keeps no more than that.
            assert owner is not None
            owner.ended(batch)

    def _share(self, now: float) -> None:
        """Give every batch the rate of the current set, re-time those whose rate changes, wait for the next to end."""
        known, next_finish = self._active.shares, inf
        for batch in self.batches:
            shares = known.get(batch.classes) or self._shares_of(batch.classes)
            if len(shares) > 1:
                self._tear(now)
                self._share(now)
                return
            share = shares[0]
            if share is not batch.share:
                batch.advance(now)
                batch.share = share
                batch.finish = now + batch.left / share.rate
            if batch.finish < next_finish:
                next_finish = batch.finish
        if self._timer is None or next_finish != self._timer_at:
            if self._timer is not None:
                cancel(self._timer)
            self._timer, self._timer_at = self.agenda.at(next_finish, self._due), next_finish

    def _tear(self, now: float) -> None:
        """Batches whose flows no longer have one rate fall apart."""
        whole, self.batches = self.batches, []
        for batch in whole:
            shares = self._active.shares.get(batch.classes) or self._shares_of(batch.classes)
            if len(shares) == 1:
                self.batches.append(batch)
            else:
                batch.advance(now)
                self.batches += [batch.part(share.classes) for share in shares]

    def _shares_of(self, classes: Classes) -> tuple[BatchRate, ...]:
        """What a batch of these classes gets now, in parts of one rate each."""
        active = self._active
        rates = active.rates = active.rates or self.rates.of(active.counts)
        parts: dict[float, list[int]] = {}
        for index in classes.indices:
            parts.setdefault(rates[index].rate, []).append(index)
        shares = []
        for rate, part in parts.items():
            key = (self.classes(tuple(part)), rate, tuple([rates[index].delays for index in part]))
            shares.append(self._shares.setdefault(key, BatchRate(*key)))
        found = active.shares[classes] = tuple(shares)
        return found

    def look(self, places: list[object], seconds: list[float]) -> None:
        """Add the flows and the time that each would still need to a state."""
        now, ordered = self.agenda.now, [*self.batches, *self._starting]
        if len(ordered) > 1:
            ordered.sort(key=lambda batch: (batch.classes.indices, batch.finish))
        places.append([batch.classes for batch in ordered])
        seconds += [batch.left if batch.share is None else batch.finish - now for batch in ordered]
