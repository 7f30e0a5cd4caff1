"""Copy engines: one copy at a time per direction, in the order of readiness; a stream keeps it for its next copy."""

from collections.abc import Iterator, Sequence

from offsim.program.commands import Copy, Record

from .instants import Done, after, near
from .walk import Walk


def wrong_engines(walk: Walk) -> Iterator[str]:
    """What is wrong with the copy engines of a rank."""
    for direction in ("H2D", "D2H"):
        copies = [
            done
            for stream in walk.done.values()
            for done in stream
            if isinstance(done.command, Copy) and done.command.direction == direction and done.end > done.start
        ]
        copies.sort(key=lambda done: (done.start, done.end))
        for number, copy in enumerate(copies):
            for what in _wrong(walk, copies, number):
                yield f"rank {walk.rank}: {direction} of {copy.command.name!r} begins at {copy.start}: {what}"


def _wrong(walk: Walk, copies: Sequence[Done], number: int) -> Iterator[str]:
    copy, before = copies[number], copies[number - 1] if number else None
    if before is None or after(copy.ready, before.end):
        if not near(copy.start, copy.ready):
            yield f"it could at {copy.ready}"
        return
    if not near(copy.start, before.end):
        yield f"the engine is free at {before.end}"
    kept = _kept(walk, before)
    if kept is not None and kept is not copy:
        yield f"stream {kept.command.stream!r} keeps the engine for {kept.command.name!r}"
    if kept is None:
        earlier = [one for one in copies[number + 1 :] if one.ready < copy.ready and not near(one.ready, copy.ready)]
        if earlier:
            yield f"{earlier[0].command.name!r} has been ready since {earlier[0].ready}, this since {copy.ready}"


def _kept(walk: Walk, before: Done) -> Done | None:
    """The next work of its stream, if that is a copy of the same direction which had been issued at its end."""
    done = walk.done[before.command.stream]
    for later in done[done.index(before) + 1 :]:
        if later.issued > before.end or near(later.issued, before.end):
            return None
        if not isinstance(later.command, Record):
            same = isinstance(later.command, Copy) and later.command.direction == before.command.direction
            return later if same else None
    return None
