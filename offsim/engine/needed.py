"""Which work a section's end depends on: backwards along streams and waits, without a clock."""

from collections.abc import Iterable, Sequence

from offsim.program.commands import (
    COMPUTE,
    Collective,
    Command,
    Compute,
    Copy,
    Record,
    Synchronize,
    Template,
    Wait,
    stream_of,
)

Work = Compute | Copy | Collective | Template
WORK = frozenset((Compute, Copy, Collective, Template))
AWAITING = frozenset((Wait, Synchronize, Copy))
Place = tuple[str, int]
"""A stream and how many of its commands have been issued."""


def needed_work(commands: Sequence[Command | Template]) -> list[Work]:
    """Work that has ended when the host and the compute stream are through: backwards along waits."""
    issued, required = dict[str, int](), dict[str, int]()
    recorded: dict[str, Place] = {}
    awaited: list[Sequence[Place]] = []
    own: list[int] = []
    for command in commands:
        stream, kind = stream_of(command), type(command)
        number = 0
        if stream is not None:
            number = issued[stream] = issued.get(stream, 0) + 1
            if kind is Record:
                recorded[command.event] = (stream, number)  # type: ignore[union-attr]
        own.append(number)
        places: Sequence[Place] = _awaited(command, issued, recorded) if kind in AWAITING else ()
        awaited.append(places)
        if places and kind is not Wait:
            _require(required, places)
    _require(required, [(COMPUTE, issued.get(COMPUTE, 0))])
    needed: list[Work] = []
    for command, number, places in zip(reversed(commands), reversed(own), reversed(awaited), strict=True):
        if number <= required.get(stream_of(command) or "", 0):
            if places:
                _require(required, places)
            if type(command) in WORK:
                needed.append(command)  # type: ignore[arg-type]
    return needed


def _require(required: dict[str, int], places: Iterable[Place]) -> None:
    for stream, count in places:
        required[stream] = max(required.get(stream, 0), count)


def _awaited(command: Command | Template, issued: dict[str, int], recorded: dict[str, Place]) -> list[Place]:
    """What the host (the stream, of a Wait) waits for in a command."""
    match command:
        case Wait(event=event) | Synchronize(scope="event", target=event):
            return [recorded[event]] if event in recorded else []
        case Synchronize(scope="stream", target=stream):
            return [(stream, issued.get(stream, 0))]
        case Synchronize():
            return list(issued.items())
        case Copy(stream=stream, host_memory="pageable" | "fresh"):
            return [(stream, issued[stream])]
    return []
