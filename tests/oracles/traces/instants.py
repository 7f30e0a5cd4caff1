"""Instants of traces, which are the same but for rounding, and the commands that were done between them."""

from typing import Any, NamedTuple

RELATIVE, ABSOLUTE = 1e-9, 1e-12


def near(one: float, other: float) -> bool:
    """Whether two instants are the same but for rounding."""
    return abs(one - other) <= RELATIVE * max(abs(one), abs(other)) + ABSOLUTE


def after(one: float, other: float) -> bool:
    """Whether an instant is not before another."""
    return one > other or near(one, other)


class Done(NamedTuple):
    """A command that was done on its stream."""

    command: Any
    section: int
    issued: float
    ready: float
    """Issued, and the one before it done."""
    start: float
    """Of a copy: when it got its engine. Of a collective: when its kernel had the multiprocessors."""
    began: float
    """Of a collective: when it no longer waited for others."""
    end: float
