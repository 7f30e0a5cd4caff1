"""The processes of a session, as /proc shows them."""

import os
from pathlib import Path
from typing import NamedTuple


class Member(NamedTuple):
    """A process of a session."""

    state: str
    seconds: float
    """Of processor time so far."""


def members(session: int) -> list[Member]:
    """All processes of a session."""
    found = (_member(path, session) for path in Path("/proc").glob("[0-9]*/stat"))
    return [member for member in found if member is not None]


def _member(stat: Path, session: int) -> Member | None:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if int(fields[3]) != session:
        return None
    return Member(fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


def lives(session: int) -> bool:
    """Whether any process of it lives: those that are dead and wait for their parent don't."""
    return any(member.state != "Z" for member in members(session))


def is_busy(session: int, seconds: float) -> bool:
    """Whether its processes took so much processor time together."""
    return sum(member.seconds for member in members(session)) >= seconds
