"""SimPy's environment, with a queue of its own for what is due at once, and calls at an instant.

Most of what happens here is that something goes on because something else has just ended: without a process that has
to be woken, a call does. Calls and events of one instant run in the order in which they were scheduled, before the
clock moves; what is due at once never passes through the heap of later ones. An alarm is a call that can be taken back:
links and multiprocessors set many and use few. Priorities among events of one instant are left out: nothing here uses
them.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Any

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority

Callback = Callable[[], object]
Alarm = list[Any]
"""[instant, number, call]: an entry of the heap."""


def _nothing() -> None:
    """What is called instead of an alarm that was taken back."""


def cancel(alarm: Alarm) -> None:
    """Take an alarm back."""
    alarm[2] = _nothing


class PromptEnvironment(Environment):
    """An environment that runs until nothing is scheduled."""

    now = 0.0
    """The simulation's clock [s]: an attribute, since everything reads it."""

    def __init__(self) -> None:
        super().__init__()
        self._due: deque[Callback] = deque()
        self._later: list[Alarm] = []
        self._last: list[Callback] = []
        self.soon = self._due.append
        """Have something called at this instant, after what is already due."""
        self.at_last = self._last.append
        """Have something called when all else is done that belongs to this instant; it may lead to more."""

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: float = 0) -> None:  # noqa: ARG002
        """Have an event processed after `delay`."""
        self.alarm(delay, partial(_process, event))

    def alarm(self, delay: float, call: Callback) -> Alarm:
        """Have something called after `delay`."""
        return self.at(self.now + delay, call)

    def at(self, instant: float, call: Callback) -> Alarm:
        """Have something called at an instant, or now if that is past."""
        entry = [instant, next(self._eid), call]
        if instant > self.now:
            heappush(self._later, entry)
        else:
            self._due.append(partial(_call, entry))
        return entry

    def run(self, until: Any = None) -> Any:
        """Go on until nothing is scheduled; raises what a process failed with."""
        assert until is None, "runs to the end only"
        due, later, last = self._due, self._later, self._last
        while True:
            while due:
                due.popleft()()
            if last and not (later and later[0][0] <= self.now):
                last.pop()()
            elif later:
                self.now, _, call = heappop(later)
                call()
            else:
                return None


def _call(alarm: Alarm) -> None:
    """What an alarm is for, unless it was taken back."""
    alarm[2]()


def fire(event: Event) -> None:
    """An event happens, and everybody who waits for it goes on, within the call that runs."""
    event._ok, event._value = True, None
    _process(event)


def _process(event: Event) -> None:
    """Let everybody go on who waits for an event."""
    callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
    for callback in callbacks:
        callback(event)
    if not event._ok and not event.defused:
        raise event._value
