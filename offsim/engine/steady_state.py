"""Skipping steps that repeat: exact, by comparing states.

At the end of a step whose host has just synchronised, the device's state is what its streams still hold. If it
equals the state at the previous step's end and the next steps' commands are the very same, each of them takes
exactly as long as the last one did. Only used while one simulated rank stands for all.
"""

from offsim.program.commands import StreamProgram

from .rank import Rank
from .stream import Marker

State = tuple[object, ...]


class SteadyState:
    """States at step ends."""

    def __init__(self) -> None:
        self._before: State | None = None

    def forget(self) -> None:
        """The host is ahead of the device: this section's end has no state to compare with."""
        self._before = None

    def repeats(self, program: StreamProgram, number: int, rank: Rank, lead: float) -> int:
        """How many sections after `number` would run exactly like it; call once at the end of every section."""
        before, now = self._before, state_of(rank, lead)
        self._before = now
        commands = program.sections[number].commands
        if program.sections[number].step is None or before != now:
            return 0
        count = 0
        for section in program.sections[number + 1 :]:
            if section.commands is not commands:
                break
            count += 1
        return count


def state_of(rank: Rank, lead: float) -> State:
    """What the future depends on: per stream the commands left and how far the first one is.

    Collectives in flight on another stream are told apart by how long they have run, not by their bytes.

    Seconds are rounded to 1e-9 and bytes to 1 (2e-11 s at 55 GB/s): far below what changes a step.
    """
    now = rank.env.now
    streams = []
    for name, stream in sorted(rank.streams.items()):
        held = [item[1] for item in stream.queue]
        commands = tuple("marker" if isinstance(c, Marker) else (type(c), c) for c in held)
        flow = rank.flow_of_stream.get(name)
        left = flow.left - flow.rate * (now - flow.since) if flow is not None else -1.0
        elapsed = now - stream.started if stream.queue else 0.0
        streams.append((name, commands, round(left), round(elapsed, 9)))
    engines = [
        (engine.busy, engine.waiting, round(now - engine.granted, 9) if engine.busy else 0.0)
        for engine in rank.engines.values()
    ]
    kept = tuple(sorted(rank.kept.items()))
    return (*streams, *engines, kept, rank.gpu.progress(), round(lead, 9))
