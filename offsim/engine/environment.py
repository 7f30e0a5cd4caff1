"""SimPy's environment, with a queue of its own for what is due at once, and alarms.

Most events here are: a process goes on because another one has just done something. They run in the order in which they
were scheduled, before the clock moves, without passing through the heap of later events. An alarm is a call at an
instant that can be taken back: links and multiprocessors set many and use few. Priorities among events of one instant
are left out: nothing here uses them.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority


class Alarm:
    """A call at an instant, unless it is taken back before."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Take it back."""
        self.call = None


class PromptEnvironment(Environment):
    """An environment that runs until nothing is scheduled."""

    now = 0.0
    """The simulation's clock [s]: an attribute, since everything reads it."""

    def __init__(self) -> None:
        super().__init__()
        self._due: deque[Event | Alarm] = deque()

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: float = 0) -> None:
        """Have an event processed after `delay`."""
        if delay:
            heappush(self._queue, (self.now + delay, priority, next(self._eid), event))
        else:
            self._due.append(event)

    def alarm(self, delay: float, call: Callable[[], None]) -> Alarm:
        """Have something called after `delay`."""
        alarm = Alarm(call)
        if delay > 0:
            queue: list[Any] = self._queue
            heappush(queue, (self.now + delay, NORMAL, next(self._eid), alarm))
        else:
            self._due.append(alarm)
        return alarm

    def run(self, until: Any = None) -> Any:
        """Process events until there are none; raises what a process failed with."""
        assert until is None, "runs to the end only"
        due, queue = self._due, self._queue
        event: Any
        while due or queue:
            if due:
                event = due.popleft()
            else:
                self.now, _, _, event = heappop(queue)
            if event.__class__ is Alarm:
                if event.call is not None:
                    event.call()
                continue
            callbacks, event.callbacks = event.callbacks, None
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value
        return None
