"""How far runs of a program have come, for another thread to read while they go on.

Nothing in a run waits for the reader or does anything for it: what is read here, runs keep anyway.
"""

from collections.abc import Sequence

from .host import HostThread


class Watch:
    """The progress of as many runs of one program as a prediction takes."""

    def __init__(self) -> None:
        self.runs = 1
        """That there will be."""
        self._ended = 0
        self._hosts: Sequence[HostThread] = ()
        self._total = 1

    def begin(self, hosts: Sequence[HostThread], commands: int) -> None:
        """Take note that a run begins on these ranks; `commands`: all that will be put on their streams.

        One that begins before the last has ended takes its place: a shortcut was not exact.
        """
        self._hosts, self._total = hosts, max(commands, 1)

    def end(self) -> None:
        """Take note that the run that began last has ended."""
        self._hosts, self._ended = (), self._ended + 1

    @property
    def share(self) -> float:
        """How much of all runs is done, from 0 to 1: commands that streams have done, of all that there will be.

        Shortcuts make the rest of a run go faster than what was done so far.
        """
        done = sum(stream.done for host in self._hosts for stream in list(host.rank.streams.values()))
        return min(1.0, (self._ended + min(done / self._total, 1.0)) / self.runs)
