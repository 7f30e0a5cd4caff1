"""The multiprocessors of one GPU: one command's kernels at a time, slowed by what else is active.

Interference is a factor per kernel class and aggressor (a copy in one direction, a collective), from the node
profile; it applies while the aggressor is active. With a clock model, kernels also slow with the clock (see clock),
which is looked at when a kernel begins, when other work begins or ends, and a few times within long kernels. Kernels of
different streams run one after the other: large kernels fill the chip.
"""

from collections import deque

from simpy import Event

from offsim.scenario.node import Node
from offsim.scenario.scenario import Simulation

from .clock import ClockState
from .durations import Pieces
from .environment import Alarm, PromptEnvironment

LEAST = 1e-13
"""Seconds of a kernel that count as none: less than the clock of a long run can tell apart."""


class Work:
    """A command's kernels on the multiprocessors."""

    __slots__ = ("done", "index", "left", "lost", "pieces", "started", "total")

    def __init__(self, pieces: Pieces, total: float, done: Event) -> None:
        self.pieces = pieces
        self.total = total
        """Seconds of all pieces alone."""
        self.index = 0
        self.left = pieces[0].seconds if pieces else 0.0
        self.done = done
        self.started = 0.0
        self.lost: dict[str, float] = {}


class GPU:
    """One GPU's multiprocessors."""

    def __init__(self, env: PromptEnvironment, node: Node, simulation: Simulation) -> None:
        self.env = env
        limited = node.gpu.clock is not None and simulation.clock
        self.clock = ClockState(node.gpu.clock) if limited and node.gpu.clock is not None else None
        self._clock_factor = 1.0
        self.slowdowns: dict[str, dict[str, float]] = {}
        if simulation.contention:
            for entry in node.interference:
                self.slowdowns.setdefault(entry.victim, {})[entry.aggressor] = entry.slowdown.value
        self.active: dict[str, int] = {}
        self._aggressors = {aggressor for by in self.slowdowns.values() for aggressor in by}
        self._slowed_by = 0
        """Kinds of work beside the kernels that are active and slow some of them."""
        self._totals: dict[int, float] = {}
        """By identity of pieces, which live as long as the run."""
        self.running: Work | None = None
        self.waiting: deque[Work] = deque()
        self._since = 0.0
        self._timer: Alarm | None = None
        self._boundary: Event | None = None
        self._boundary_timer: Alarm | None = None

    def start(self, pieces: Pieces) -> Work:
        """Kernels that run as soon as the multiprocessors are free; `done` fires at the end."""
        total = self._totals.get(id(pieces))
        if total is None:
            total = self._totals[id(pieces)] = sum(piece.seconds for piece in pieces)
        work = Work(pieces, total, Event(self.env))
        if self.running is None:
            self._run(work)
        else:
            self.waiting.append(work)
        return work

    def _run(self, work: Work | None) -> None:
        """This is what the multiprocessors do from now on."""
        self.running = work
        now = self._since = self.env.now
        if self.clock is not None:
            self._look_at_clock()
        if work is not None:
            work.started = now
            if self._slowed_by or self.clock is not None:
                self._arm()
            else:
                self._timer = self.env.alarm(work.total, self._on_timer)

    def _look_at_clock(self) -> None:
        """What runs now is the load; the running kernel goes on at the clock of this moment."""
        if self.clock is None:
            return
        work = self.running
        piece = work.pieces[work.index] if work is not None and work.index < len(work.pieces) else None
        beside = [name for name, count in self.active.items() if count > 0]
        self.clock.set_load(self.env.now, piece.demand if piece is not None else 0.0, beside)
        self._clock_factor = 1.0 if piece is None else self.clock.slowdown(self.env.now, piece.kernel_class)

    def set_active(self, aggressor: str, change: int) -> None:
        """A copy or collective on this GPU begins (+1) or ends (-1)."""
        if self.clock is None and aggressor not in self._aggressors:
            return
        before = self.active.get(aggressor, 0)
        after = before + change
        changed = (before == 0) != (after == 0)
        if not changed:
            self.active[aggressor] = after
            return
        if self.running is not None:
            index = self.running.index
            self._advance()
            self._note_active(aggressor, after)
            self._look_at_clock()
            self._arm()
            self._arm_boundary(index)
        else:
            self._note_active(aggressor, after)
            self._look_at_clock()

    def _note_active(self, aggressor: str, count: int) -> None:
        """So many of this kind are active from now on, where there were none or now are none."""
        self.active[aggressor] = count
        if aggressor in self._aggressors:
            self._slowed_by += 1 if count else -1

    def _slowing(self) -> bool:
        """Whether anything that slows some kernel is active."""
        return self.clock is not None or self._slowed_by > 0

    def _factor(self, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes now."""
        factor = self._clock_factor
        for aggressor, slowdown in self.slowdowns.get(kernel_class, {}).items():
            if self.active.get(aggressor, 0) > 0:
                factor *= 1 + slowdown
        return factor

    def _advance(self) -> None:
        """Account for the kernels done since the last change."""
        work, elapsed = self.running, self.env.now - self._since
        assert work is not None
        self._since = self.env.now
        while elapsed > 0 and work.index < len(work.pieces):
            kernel_class = work.pieces[work.index].kernel_class
            factor = self._factor(kernel_class)
            spent = min(elapsed, work.left * factor)
            self._charge(work, kernel_class, spent * (1 - self._clock_factor / factor))
            work.left -= spent / factor
            elapsed -= spent
            if work.left > LEAST:
                return
            work.index += 1
            work.left = work.pieces[work.index].seconds if work.index < len(work.pieces) else 0.0

    def _charge(self, work: Work, kernel_class: str, lost: float) -> None:
        guilty = {a: s for a, s in self.slowdowns.get(kernel_class, {}).items() if self.active.get(a, 0) > 0 and s > 0}
        for aggressor, slowdown in guilty.items():
            key = f"{aggressor} interference"
            work.lost[key] = work.lost.get(key, 0.0) + lost * slowdown / sum(guilty.values())

    def _remaining(self) -> float:
        work = self.running
        assert work is not None
        if work.index >= len(work.pieces):
            return 0.0
        if self.clock is not None:
            return min(work.left * self._factor(work.pieces[work.index].kernel_class), self.clock.slice)
        if not self._slowing():
            if not work.index:
                return work.left + work.total - work.pieces[0].seconds
            return work.left + sum([piece.seconds for piece in work.pieces[work.index + 1 :]])
        rest = work.left * self._factor(work.pieces[work.index].kernel_class)
        return rest + sum(piece.seconds * self._factor(piece.kernel_class) for piece in work.pieces[work.index + 1 :])

    def _arm(self) -> None:
        """A timer for the end of the running work; an older timer is ignored when it fires."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.env.alarm(self._remaining(), self._on_timer)

    def _on_timer(self) -> None:
        work, self._timer = self.running, None
        assert work is not None
        if self._slowing():
            self._advance()
        if self.clock is not None and work.index < len(work.pieces):
            self._look_at_clock()
            self._arm()
            self._arm_boundary()
            return
        self._run(self.waiting.popleft() if self.waiting else None)
        work.done.succeed()

    def look(self, places: list[object], seconds: list[float]) -> None:
        """Add what the multiprocessors still have to do, and the mean demand, to a state."""
        if self.clock is not None:
            seconds.append(self.clock.mean(self.env.now) / self.clock.headroom)
        if self.running is None:
            places.append(None)
            return
        self._advance()
        places.append((id(self.running.pieces), self.running.index, [id(work.pieces) for work in self.waiting]))
        seconds.append(self.running.left)

    def boundary(self) -> Event | None:
        """None if no kernel runs, else an event that fires when the one that runs now ends.

        That is when another stream's kernels get in.
        """
        if self._kernel_left() <= 0.0:
            return None
        if self._boundary is None:
            self._boundary = self.env.event()
            self._arm_boundary()
        return self._boundary

    def _arm_boundary(self, index: int = -1) -> None:
        """A timer for the end of the running kernel; again whenever its speed changes.

        If kernel `index` ran until this very instant, that is the end.
        """
        if self._boundary is not None and self.running is not None and 0 <= index < self.running.index:
            boundary, self._boundary = self._boundary, None
            boundary.succeed()
        if self._boundary is not None:
            if self._boundary_timer is not None:
                self._boundary_timer.cancel()
            self._boundary_timer = self.env.alarm(self._kernel_left(), self._at_boundary)

    def _at_boundary(self) -> None:
        if self._boundary is not None:
            boundary, self._boundary = self._boundary, None
            boundary.succeed()

    def _kernel_left(self) -> float:
        """Seconds until the kernel that runs now ends; 0 if none does."""
        work = self.running
        if work is None:
            return 0.0
        self._advance()
        if work.index >= len(work.pieces):
            return 0.0
        return work.left * self._factor(work.pieces[work.index].kernel_class)
