"""How far everything is at an instant: in commands counted from a block or step, and in seconds left.

If two such states are equal, and the commands ahead look alike, what follows takes equally long.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .host import HostThread
from .network import Network
from .queue import instant_tolerance


class State(NamedTuple):
    """A state relative to a block or step."""

    places: list[object]
    seconds: list[float]
    hosts: list[object]
    host_seconds: list[float]

    def same_device(self, other: "State", now: float) -> bool:
        """Whether streams, engines, flows and kernels are equally far."""
        return self.places == other.places and close(self.seconds, other.seconds, instant_tolerance(now))

    def same_hosts(self, other: "State", now: float) -> bool:
        """Whether host threads are equally far, and equally ahead of the clock."""
        return self.hosts == other.hosts and close(self.host_seconds, other.host_seconds, instant_tolerance(now))


class Mark(NamedTuple):
    """The begin of a block or step on the compute stream of the first simulated rank."""

    number: int
    at: float
    state: State
    notes: tuple[int, ...]
    """How many each host has made."""
    settled: bool = False
    """Whether a block's waits for what earlier passages recorded are over."""


def close(one: Sequence[float], other: Sequence[float], limit: float) -> bool:
    """Whether instants, or seconds, are pairwise the same."""
    if len(one) != len(other):
        return False
    for a, b in zip(one, other, strict=True):  # noqa: SIM110  (called often: no generator)
        if abs(a - b) > limit:
            return False
    return True


def look(
    state: State, host: HostThread, starts: Mapping[str, int], begins: Mapping[str, int], *, plans: bool = False
) -> None:
    """Add a rank's streams, engines and kernels, and how far its host is ahead, to a state.

    Places count from `starts` + `begins` where a stream has any; `plans`: say which passages are on the streams, too.
    """
    rank, now = host.rank, host.agenda.now
    places, seconds = state.places, state.seconds
    for name, stream in rank.streams.items():
        place = stream.done - starts.get(name, stream.issued) - begins.get(name, 0)
        plan = id(stream.ahead[0].chunk.plan) if plans and stream.ahead else 0
        places += (name, place, stream.busy, plan)
        if stream.busy and not stream.waits:
            seconds.append(now - stream.started)
    for engine in rank.engines.values():
        places += (engine.busy, engine.waiting)
        if engine.busy:
            seconds.append(now - engine.granted)
    places.append(dict(rank.kept))
    rank.gpu.look(places, seconds)
    state.host_seconds.append(max(0.0, host.clock - now))


def empty_state(network: Network) -> State:
    """A state with the flows in flight only."""
    state = State([], [], [], [])
    network.look(state.places, state.seconds)
    return state
