"""Skipping steps that repeat: exact, by comparing states.

At the end of a step whose host has just synchronised, the device's state is what its streams still hold. If it equals the
state at the previous step's end and the next steps' commands are the very same, each of them takes exactly as long as
the last one did. Only used while one simulated rank stands for all.
"""

from offsim.program.commands import StreamProgram

from .rank import Rank

State = tuple[object, ...]


class SteadyState:
    """States at step ends."""

    def __init__(self) -> None:
        self._before: State | None = None

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
    """Everything that the future depends on: per stream the commands left and how far the first one is.

    Bytes and seconds are rounded to 1e-9 of a second and 1e-3 byte: far below what changes a step.
    """
    streams = []
    for name, stream in sorted(rank.streams.items()):
        held = tuple(item[1] for item in stream.queue if not isinstance(item[1], type(None)))
        commands = tuple(str(type(command).__name__) if hasattr(command, "reached") else command for command in held)
        flow = rank.flow_of_stream.get(name)
        left = flow.left - flow.rate * (rank.env.now - flow.since) if flow is not None else 0.0
        elapsed = rank.env.now - stream.started if stream.queue else 0.0
        streams.append((name, commands, round(left, 0), round(elapsed, 9)))
    return (*streams, round(lead, 9))
