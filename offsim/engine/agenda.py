"""What is to happen, and when: calls in the order of their instants, and of their making within one instant.

Most of what happens in a simulation is that something goes on because something else has just ended; a call does that
without a process that has to be woken. What is due at once never passes through the heap of later calls. An alarm can
be taken back: links and multiprocessors set many and use few.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

Callback = Callable[[], object]
Alarm = list[Any]
"""[instant, number, call]: an entry of the heap."""


def _nothing() -> None:
    """What is called instead of an alarm that was taken back."""


def cancel(alarm: Alarm) -> None:
    """Take an alarm back."""
    alarm[2] = _nothing


class Agenda:
    """The simulation's clock, and what it leads to."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds."""
        self.skipped = 0.0
        """Seconds that were left out so far: the real instant is so much later than now."""
        self._number = 0
        self._due: list[Callback] = []
        self._later: list[Alarm] = []
        self._last: list[Callback] = []

    def soon(self, call: Callback) -> None:
        """Have something called at this instant, after what is already due."""
        self._due.append(call)

    def at_last(self, call: Callback) -> None:
        """Have something called when all else is done that belongs to this instant; it may lead to more."""
        self._last.append(call)

    def alarm(self, delay: float, call: Callback) -> Alarm:
        """Have something called after `delay`."""
        return self.at(self.now + delay, call)

    def at(self, instant: float, call: Callback) -> Alarm:
        """Have something called at an instant, or now if that is past."""
        self._number += 1
        entry: Alarm = [instant, self._number, call]
        if instant > self.now:
            heappush(self._later, entry)
        else:
            self._due.append(lambda: entry[2]())
        return entry

    def run(self) -> None:
        """Go on until there is nothing left to do."""
        later, last = self._later, self._last
        while True:
            while self._due:
                due, self._due = self._due, []
                for call in due:
                    call()
            if last and not (later and later[0][0] <= self.now):
                last.pop()()
            elif later:
                entry = heappop(later)
                self.now = entry[0]
                entry[2]()
            else:
                return
