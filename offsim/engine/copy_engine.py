"""A copy engine: one copy at a time per GPU and direction, in order of readiness, blind to stream priority.

Back-to-back copies of one stream run as a block: a stream whose next command is a copy of the same direction, already
issued, keeps the engine. Measured on Hopper GPUs: a small copy waits behind a large prefetch of another stream.
"""

from collections import deque

from .agenda import Agenda, Callback


class CopyEngine:
    """A copy engine: a FIFO server of capacity one."""

    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.busy = False
        self.granted = 0.0
        """When the present holder got it."""
        self._waiting: deque[tuple[str, Callback]] = deque()

    @property
    def waiting(self) -> tuple[str, ...]:
        """The streams that stand in line."""
        return tuple(name for name, _ in self._waiting)

    def request(self, stream: str, turn: Callback) -> bool:
        """Whether the engine is the stream's at once; else `turn` is called when it is."""
        if self.busy:
            self._waiting.append((stream, turn))
            return False
        self.busy = True
        self.granted = self.agenda.now
        return True

    def release(self) -> None:
        """Give the engine to the next in line."""
        if self._waiting:
            self.granted = self.agenda.now
            self.agenda.soon(self._waiting.popleft()[1])
        else:
            self.busy = False
