"""SimPy's environment on an agenda: events of processes take their turn among its calls.

Priorities among events of one instant are left out: nothing here uses them.
"""

from functools import partial
from typing import Any

from simpy import Environment, Event
from simpy.events import NORMAL, EventPriority

from .agenda import Agenda


class PromptEnvironment(Environment):
    """An environment that runs until nothing is scheduled."""

    def __init__(self, agenda: Agenda) -> None:
        super().__init__()
        self.agenda = agenda

    @property
    def now(self) -> float:
        """The simulation's clock [s]."""
        return self.agenda.now

    def schedule(self, event: Event, priority: EventPriority = NORMAL, delay: float = 0) -> None:  # noqa: ARG002
        """Have an event processed after `delay`."""
        process = partial(_process, event)
        if delay:
            self.agenda.alarm(delay, process)
        else:
            self.agenda.soon(process)

    def run(self, until: Any = None) -> Any:
        """Go on until nothing is scheduled; raises what a process failed with."""
        assert until is None, "runs to the end only"
        self.agenda.run()


def fire(event: Event) -> None:
    """Let an event happen: everybody who waits for it goes on, within the call that runs."""
    event._ok, event._value = True, None
    _process(event)


def _process(event: Event) -> None:
    """Let everybody go on who waits for an event."""
    callbacks, event.callbacks = event.callbacks, None  # type: ignore[assignment]
    for callback in callbacks:
        callback(event)
    if not event._ok and not event.defused:
        raise event._value
