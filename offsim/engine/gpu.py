"""The multiprocessors of one GPU: one command's kernels at a time, slowed by what else is active.

Interference is a factor per kernel class and aggressor (a copy in one direction, a collective), from the node
profile; it applies while the aggressor is active. With a clock model, kernels also slow with the clock (see clock),
which is looked at when a kernel begins, when other work begins or ends, and a few times within long kernels. Kernels of
different streams run one after the other: large kernels fill the chip.
"""

from collections import deque

from offsim.scenario.node import Node
from offsim.scenario.scenario import Simulation

from .agenda import Agenda, Alarm, Callback, cancel
from .clock import ClockState
from .durations import Pieces
from .interference import UNSLOWED, LossShares, Surroundings, kernel_slowdowns
from .values_in_use import ValuesInUse

LEAST = 1e-13
"""Seconds of a kernel that count as none: less than the clock of a long run can tell apart."""


class KernelsInFlight:
    """What a stream has on the multiprocessors: one command's kernels at a time."""

    __slots__ = ("finished", "index", "left", "lost", "pieces", "started", "total")

    def __init__(self, finished: Callback) -> None:
        self.finished = finished
        """Called at the end."""
        self.pieces: Pieces = ()
        self.total = 0.0
        """Seconds of all pieces alone."""
        self.index = 0
        self.left = 0.0
        self.started = 0.0
        self.lost: dict[str, float] | None = None
        """Seconds by culprit; None if there are none."""


class Multiprocessors:
    """One GPU's multiprocessors."""

    def __init__(self, agenda: Agenda, node: Node, simulation: Simulation, values: ValuesInUse) -> None:
        self.agenda, self.values = agenda, values
        limited = node.gpu.clock is not None and simulation.clock
        self.clock = ClockState(node.gpu.clock, values) if limited and node.gpu.clock is not None else None
        self._clock_factor = 1.0
        self._drawn_beside = 0.0
        """Watts of the copies and collectives that are active, where there is a clock."""
        self.slowdowns = kernel_slowdowns(node.gpu.interference, values) if simulation.contention else {}
        self.active: dict[str, int] = {}
        self._aggressors: frozenset[str] = frozenset([aggressor for by in self.slowdowns.values() for aggressor in by])
        self._bits = {aggressor: 1 << i for i, aggressor in enumerate(sorted(self._aggressors))}
        self._active_bits = 0
        """Which aggressors are active."""
        self._known: dict[int, Surroundings] = {}
        self._beside = self._surroundings()
        self._slowing = self.clock is not None
        """Whether anything that slows some kernel is active."""
        self.running: KernelsInFlight | None = None
        self.waiting: deque[KernelsInFlight] = deque()
        self._since = 0.0
        self._timer: Alarm | None = None
        self._boundary: list[Callback] = []
        self._boundary_timer: Alarm | None = None

    def start(self, work: KernelsInFlight, pieces: Pieces, total: float) -> None:
        """Let kernels of so many seconds run as soon as the multiprocessors are free."""
        work.pieces, work.total, work.index, work.lost = pieces, total, 0, None
        work.left = pieces[0].seconds if pieces else 0.0
        if self.running is None:
            self._run(work)
        else:
            self.waiting.append(work)

    def _run(self, work: KernelsInFlight | None) -> None:
        """This is what the multiprocessors do from now on."""
        self.running = work
        now = self._since = self.agenda.now
        if self.clock is not None:
            self._look_at_clock()
        if work is not None:
            work.started = now
            if self._slowing:
                self._arm()
            else:
                self._timer = self.agenda.at(now + work.total, self._on_timer)

    def _look_at_clock(self) -> None:
        """What runs now is the load; the running kernel goes on at the clock of this moment."""
        if self.clock is None:
            return
        work = self.running
        piece = work.pieces[work.index] if work is not None and work.index < len(work.pieces) else None
        if piece is None:
            self.clock.set_load(self.agenda.now, 0.0, "", self._drawn_beside)
            self._clock_factor = 1.0
        else:
            self.clock.set_load(self.agenda.now, piece.demand, piece.kernel_class, self._drawn_beside)
            self._clock_factor = self.clock.slowdown(piece.kernel_class)

    def set_active(self, aggressor: str, change: int) -> None:
        """A copy or collective on this GPU begins (+1) or ends (-1)."""
        if self.clock is None and aggressor not in self._aggressors:
            return
        before = self.active.get(aggressor, 0)
        after = before + change
        if (before == 0) == (after == 0):
            self.active[aggressor] = after
            return
        index = -1
        if self.running is not None:
            index = self.running.index
            self._advance()
        self.active[aggressor] = after
        self._active_bits ^= self._bits.get(aggressor, 0)
        self._beside = self._surroundings()
        self._slowing = self.clock is not None or self._active_bits != 0
        if self.clock is not None:
            self._drawn_beside = self.clock.power_of(name for name, count in self.active.items() if count > 0)
            self._look_at_clock()
        if self.running is not None:
            self._arm()
            self._arm_boundary(index)

    def _surroundings(self) -> Surroundings:
        """The surroundings that are active now."""
        found = self._known.get(self._active_bits)
        if found is None:
            active = frozenset(aggressor for aggressor, bit in self._bits.items() if self._active_bits & bit)
            found = self._known[self._active_bits] = Surroundings(active, self.slowdowns, self.values)
        return found

    def _factor(self, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes now."""
        return self._clock_factor * self._beside.of_class.get(kernel_class, UNSLOWED)[0]

    def _advance(self) -> None:
        """Account for the kernels done since the last change."""
        work, elapsed = self.running, self.agenda.now - self._since
        assert work is not None
        self._since = self.agenda.now
        pieces, of_class, clock = work.pieces, self._beside.of_class, self._clock_factor
        while work.index < len(pieces) and (elapsed > 0 or work.left <= LEAST):  # Kernels of no rows take no time.
            factor, shares = of_class.get(pieces[work.index].kernel_class, UNSLOWED)
            factor *= clock
            spent = min(elapsed, work.left * factor)
            if shares:
                self._charge(work, shares, spent * (1 - clock / factor))
            work.left -= spent / factor
            elapsed -= spent
            if work.left > LEAST:
                return
            work.index += 1
            work.left = pieces[work.index].seconds if work.index < len(pieces) else 0.0

    def _charge(self, work: KernelsInFlight, shares: LossShares, lost: float) -> None:
        """So many seconds were lost to these."""
        if work.lost is None:
            work.lost = {}
        for culprit, share in shares:
            work.lost[culprit] = work.lost.get(culprit, 0.0) + lost * share

    def _remaining(self) -> float:
        """Seconds until the running work ends, or until the clock is looked at again."""
        work = self.running
        assert work is not None
        if work.index >= len(work.pieces):
            return 0.0
        now = work.left * self._factor(work.pieces[work.index].kernel_class)
        if self.clock is not None:
            return min(now, self.clock.slice)
        return now + self._beside.rests(work.pieces)[work.index]

    def _arm(self) -> None:
        """A timer for the end of the running work, instead of the one before."""
        if self._timer is not None:
            cancel(self._timer)
        if self._active_bits and self.running is not None:
            self._beside.meet(self.running.pieces)
        self._timer = self.agenda.alarm(self._remaining(), self._on_timer)

    def _on_timer(self) -> None:
        work, self._timer = self.running, None
        assert work is not None
        if self._slowing:
            self._finish(work)
        if self.clock is not None and work.index < len(work.pieces):
            self._look_at_clock()
            self._arm()
            self._arm_boundary()
            return
        if self.waiting or self.clock is not None:
            self._run(self.waiting.popleft() if self.waiting else None)
        else:
            self.running = None
        work.finished()

    def _finish(self, work: KernelsInFlight) -> None:
        """Account for the kernels done since the last change: all of them, if there was none."""
        if self.clock is None and self._since == work.started:
            work.index, work.lost = len(work.pieces), self._beside.lost(work.pieces)
        else:
            self._advance()

    def look(self, places: list[object], seconds: list[float]) -> None:
        """Add what the multiprocessors still have to do, and the mean demand, to a state."""
        if self.clock is not None:
            seconds += self.clock.look(self.agenda.now)
        if self.running is None:
            places.append(None)
            return
        self._advance()
        places.append((id(self.running.pieces), self.running.index, [id(work.pieces) for work in self.waiting]))
        seconds.append(self.running.left)

    def at_boundary(self, call: Callback) -> bool:
        """False if no kernel runs; else `call` is called when the one that runs now ends.

        That is when another stream's kernels get in.
        """
        if self.running is None or self._kernel_left() <= 0.0:
            return False
        self._boundary.append(call)
        if len(self._boundary) == 1:
            self._arm_boundary()
        return True

    def _arm_boundary(self, index: int = -1) -> None:
        """A timer for the end of the running kernel; again whenever its speed changes.

        If kernel `index` ran until this very instant, that is the end.
        """
        if not self._boundary:
            return
        if self.running is not None and 0 <= index < self.running.index:
            self._pass_boundary()
            return
        if self._boundary_timer is not None:
            cancel(self._boundary_timer)
        self._boundary_timer = self.agenda.alarm(self._kernel_left(), self._pass_boundary)

    def _pass_boundary(self) -> None:
        """The kernel has ended: those who waited for that go on."""
        calls, self._boundary = self._boundary, []
        for call in calls:
            self.agenda.soon(call)

    def _kernel_left(self) -> float:
        """Seconds until the kernel that runs now ends; 0 if none does."""
        work = self.running
        if work is None:
            return 0.0
        self._advance()
        if work.index >= len(work.pieces):
            return 0.0
        return work.left * self._factor(work.pieces[work.index].kernel_class)
