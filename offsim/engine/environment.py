"""SimPy's environment with a queue of its own for events that are due at once.

Most events here are: a process that goes on because another one has just done something. They run in the order in
which they were scheduled, before the clock moves, without passing through the heap of later events. Priorities among
events of one instant are left out: nothing here uses them.
"""

from collections import deque
from heapq import heappop, heappush
from typing import Any

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority


class PromptEnvironment(Environment):
    """An environment that runs until nothing is scheduled."""

    def __init__(self) -> None:
        super().__init__()
        self._due: deque[Event] = deque()

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: float = 0) -> None:
        """Have an event processed after `delay`."""
        if delay:
            heappush(self._queue, (self._now + delay, priority, next(self._eid), event))
        else:
            self._due.append(event)

    def run(self, until: Any = None) -> Any:
        """Process events until there are none; raises what a process failed with."""
        assert until is None, "runs to the end only"
        due, queue = self._due, self._queue
        while due or queue:
            if due:
                event = due.popleft()
            else:
                self._now, _, _, event = heappop(queue)
            callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
            for callback in callbacks:
                callback(event)
            if not event._ok and not event.defused:
                raise event._value
        return None
