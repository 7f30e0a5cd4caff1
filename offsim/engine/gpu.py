"""The multiprocessors of one GPU: one command's kernels at a time, slowed by what else is active.

Interference is a factor per kernel class and aggressor (a copy in one direction, a collective), from the node
profile; it applies while the aggressor is active. Kernels of different streams run one after the other: large
kernels fill the chip.
"""

from collections import deque
from typing import Any

from simpy import Environment, Event
from simpy.events import Timeout

from offsim.scenario.node import Node

Pieces = tuple[tuple[str, float], ...]


class Work:
    """A command's kernels on the multiprocessors."""

    __slots__ = ("done", "index", "left", "lost", "pieces", "started")

    def __init__(self, pieces: Pieces, done: Event) -> None:
        self.pieces = pieces
        self.index = 0
        self.left = pieces[0][1] if pieces else 0.0
        self.done = done
        self.started = 0.0
        self.lost: dict[str, float] = {}


class GPU:
    """One GPU's multiprocessors."""

    def __init__(self, env: Environment, node: Node, *, interference: bool = True) -> None:
        self.env = env
        self.slowdowns: dict[str, dict[str, float]] = {}
        if interference:
            for entry in node.interference:
                self.slowdowns.setdefault(entry.victim, {})[entry.aggressor] = entry.slowdown.value
        self.active: dict[str, int] = {}
        self.running: Work | None = None
        self.waiting: deque[Work] = deque()
        self._since = 0.0
        self._timer: Event | None = None
        self._boundary: Event | None = None
        self._boundary_timer: Event | None = None

    def start(self, pieces: Pieces) -> Work:
        """Kernels that run as soon as the multiprocessors are free; `done` fires at the end."""
        work = Work(pieces, self.env.event())
        self.waiting.append(work)
        if self.running is None:
            self._next()
        return work

    def _next(self) -> None:
        self.running = self.waiting.popleft() if self.waiting else None
        self._since = self.env.now
        if self.running is not None:
            self.running.started = self.env.now
            self._arm()

    def set_active(self, aggressor: str, change: int) -> None:
        """A copy or collective on this GPU begins (+1) or ends (-1)."""
        before = self.active.get(aggressor, 0)
        after = before + change
        if (before == 0) != (after == 0) and self.running is not None and self._sensitive(aggressor):
            self._advance()
            self.active[aggressor] = after
            self._arm()
            self._arm_boundary()
        else:
            self.active[aggressor] = after

    def _sensitive(self, aggressor: str) -> bool:
        return any(aggressor in by for by in self.slowdowns.values())

    def _slowing(self) -> bool:
        """Whether anything that slows some kernel is active."""
        return bool(self.slowdowns) and any(self.active.values())

    def _factor(self, kernel_class: str) -> float:
        """How many times longer a kernel of this class takes now."""
        factor = 1.0
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
            kernel_class = work.pieces[work.index][0]
            factor = self._factor(kernel_class)
            spent = min(elapsed, work.left * factor)
            self._charge(work, kernel_class, spent * (1 - 1 / factor))
            work.left -= spent / factor
            elapsed -= spent
            if work.left > 1e-15:
                return
            work.index += 1
            work.left = work.pieces[work.index][1] if work.index < len(work.pieces) else 0.0

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
        if not self._slowing():
            return work.left + sum([seconds for _, seconds in work.pieces[work.index + 1 :]])
        rest = work.left * self._factor(work.pieces[work.index][0])
        return rest + sum(seconds * self._factor(kind) for kind, seconds in work.pieces[work.index + 1 :])

    def _arm(self) -> None:
        """A timer for the end of the running work; an older timer is ignored when it fires."""
        timer = Timeout(self.env, self._remaining())
        self._timer = timer
        assert timer.callbacks is not None
        timer.callbacks.append(self._on_timer)

    def _on_timer(self, timer: Event | Any) -> None:
        if timer is not self._timer or self.running is None:
            return
        if self._slowing():
            self._advance()
        work = self.running
        self._next()
        work.done.succeed()

    def progress(self) -> tuple[object, ...]:
        """What the multiprocessors still have to do, rounded to a nanosecond."""
        if self.running is None:
            return ()
        self._advance()
        waiting = tuple(work.pieces for work in self.waiting)
        return (self.running.pieces, self.running.index, round(self.running.left, 9), waiting)

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

    def _arm_boundary(self) -> None:
        """A timer for the end of the running kernel; again whenever its speed changes."""
        if self._boundary is not None:
            self._boundary_timer = Timeout(self.env, self._kernel_left())
            assert self._boundary_timer.callbacks is not None
            self._boundary_timer.callbacks.append(self._at_boundary)

    def _at_boundary(self, timer: Event) -> None:
        if timer is self._boundary_timer and self._boundary is not None:
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
        return work.left * self._factor(work.pieces[work.index][0])
