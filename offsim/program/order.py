"""Happens-before in a stream program: what has ended when a command starts, whatever takes how long.

Vector clocks, one per stream and one for the host: a clock says how many commands of each stream have ended
for sure. Streams are FIFO; a wait takes over what the event's latest record knew; a blocked host passes what
it learnt to every stream, since later commands are issued later.
"""

from .commands import Synchronize

StreamClock = dict[str, int]
"""Stream -> how many of its commands have ended; streams that aren't named have none."""


class Order:
    """The order of the commands issued so far."""

    def __init__(self) -> None:
        self._host: StreamClock = {}
        self._streams: dict[str, StreamClock] = {}
        self._events: dict[str, StreamClock] = {}

    def clock(self, stream: str) -> StreamClock:
        """What has ended when the next command of `stream` starts."""
        clock = self._streams.get(stream)
        if clock is None:
            clock = self._streams[stream] = dict(self._host)
        return clock

    def issue(self, stream: str) -> int:
        """Put a command on a stream; returns its tick: it is the stream's command number `tick`."""
        clock = self.clock(stream)
        tick = clock[stream] = clock.get(stream, 0) + 1
        return tick

    def record(self, stream: str, event: str) -> None:
        """Mark the stream's tail."""
        self._events[event] = dict(self.clock(stream))

    def wait(self, stream: str, event: str) -> bool:
        """The stream waits for the latest record of an event; False if there is none."""
        recorded = self._events.get(event)
        if recorded is None:
            return False
        _merge(self.clock(stream), recorded)
        return True

    def synchronize(self, command: Synchronize) -> bool:
        """The host waits; False if it is for an event that was never recorded."""
        if command.scope == "event":
            recorded = self._events.get(command.target)
            if recorded is None:
                return False
            self._block(recorded)
        elif command.scope == "stream":
            self.drain(command.target)
        else:
            for stream in list(self._streams):
                self.drain(stream)
        return True

    def drain(self, stream: str) -> None:
        """The host waits until a stream is empty."""
        self._block(self.clock(stream))

    def _block(self, until: StreamClock) -> None:
        _merge(self._host, until)
        for clock in self._streams.values():
            _merge(clock, self._host)


def _merge(clock: StreamClock, other: StreamClock) -> None:
    """Raise `clock` to at least `other`, entry by entry."""
    for stream, tick in other.items():
        if clock.get(stream, 0) < tick:
            clock[stream] = tick
