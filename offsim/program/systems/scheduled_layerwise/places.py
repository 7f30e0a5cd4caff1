"""Places within a block at which a policy may issue commands: before which command of its template.

A place is found by what the commands are, so it exists in every architecture; where a block has no collective, places
after collectives are its start. A place has a command after it: of a block of one command the only one is its start.
"""

from typing import NamedTuple

from ...commands import Collective, Compute
from ...passages import Template
from .parameters import Placing


class ComputeWindow(NamedTuple):
    """Commands between two collectives, or from or to the block's end."""

    place: int
    flops: float


def place_of(placing: Placing, template: Template) -> int:
    """Where something is issued once in a block."""
    kinds = [_kind(command) for command in template.commands]
    found = {
        "after-first-all-to-all": _after(kinds, "collective"),
        "after-attention": _after(kinds, "attention"),
        "after-all-to-alls": len(kinds) - _after(kinds[::-1], "collective") + 1 if "collective" in kinds else 0,
        "last-kernels": len(kinds) - 1,
    }
    return min(found.get(placing, 0), len(kinds) - 1)


def _kind(command: Compute | Collective) -> str:
    if isinstance(command, Collective):
        return "collective"
    return "attention" if any(kernel.kernel_class == "attention" for kernel in command.kernels) else "kernels"


def _after(kinds: list[str], kind: str) -> int:
    return kinds.index(kind) + 1 if kind in kinds else 0


def collectives(template: Template) -> list[int]:
    """The places before a block's collectives."""
    return [i for i, command in enumerate(template.commands) if isinstance(command, Collective)]


def windows(template: Template) -> list[ComputeWindow]:
    """The windows between a block's collectives that have kernels, in order."""
    ends = [*collectives(template), len(template.commands)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [ComputeWindow(a, _flops(template, a, b)) for a, b in zip(starts, ends, strict=True) if a < b]


def _flops(template: Template, start: int, end: int) -> float:
    computes = [command for command in template.commands[start:end] if isinstance(command, Compute)]
    return sum(kernel.flops for command in computes for kernel in command.kernels)


def shares(chunks: int, found: list[ComputeWindow]) -> list[int]:
    """The place at which each chunk is issued, so that windows get chunks by their FLOPs.

    Chunk k goes where the middle of the k-th of so many equal parts of all FLOPs lies.

    >>> shares(4, [ComputeWindow(0, 1.0), ComputeWindow(3, 3.0)])
    [0, 3, 3, 3]
    """
    total = sum(window.flops for window in found)
    places = []
    for chunk in range(chunks):
        middle, reached = (chunk + 0.5) / chunks * total, 0.0
        for window in found:
            reached += window.flops
            if reached >= middle:
                places.append(window.place)
                break
    return places
