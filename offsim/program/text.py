"""A stream program as text: one command per line in host order, `stream | command | details`.

Compact text has no numbers that depend on shapes, so it changes only when the order of events does.
"""

from collections.abc import Callable, Collection, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from offsim.scenario.wording import one_line

from .commands import (
    HOST_POOLS,
    WHOLE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    HostWork,
    Kernel,
    Piece,
    Record,
    Section,
    StreamProgram,
    Synchronize,
    Wait,
)
from .groups import SEQUENCE, WORLD, Partition
from .passages import stream_of

HOST = "host"
"""Stands in the stream column of what is not put on a stream."""


class ProgramLine(NamedTuple):
    """One command: `verb object` says what is done to what, `numbers` how much of it."""

    stream: str
    verb: str
    object: str
    numbers: str


def format_program(program: StreamProgram, steps: Collection[int] | None = None, *, compact: bool = False) -> str:
    """The program that every rank issues, section by section; a section that repeats is written once.

    With `steps`, only these denoising steps and no other section.
    """
    chosen = [section for section in program.sections if steps is None or section.use.step in steps]
    distinct = {id(section.commands): section.commands for section in chosen}
    lines = {key: [line_of(command) for command in commands] for key, commands in distinct.items()}
    width = max((len(line.stream) for section in lines.values() for line in section), default=0)
    verb_width = max((len(line.verb) for section in lines.values() for line in section), default=0)
    blocks = [_title(program)]
    for heading, section in _headings(chosen):
        body = lines[id(section.commands)] if section is not None else []
        texts = (_compact(line, width) if compact else _full(line, width, verb_width) for line in body)
        blocks.append("\n".join([heading, *texts]))
    return "\n\n".join(blocks) + "\n"


def _title(program: StreamProgram) -> str:
    ranks = "1 rank" if program.ranks == 1 else f"{program.ranks} ranks"
    partitions = "".join(f", {_partition(name, program.groups[name])}" for name in program.groups.named)
    priority = f"; high priority: {', '.join(program.high_priority)}" if program.high_priority else ""
    return f"{program.name}: {ranks}{partitions}{priority}"


def _partition(name: str, partition: Partition) -> str:
    groups = " ".join("(" + " ".join(map(str, group)) + ")" for group in partition)
    return f"{'sequence-parallel' if name == SEQUENCE else name} groups {groups}"


def _headings(sections: list[Section]) -> Iterator[tuple[str, Section | None]]:
    """Headings in order, each with the section to write out, or None where one says which section it repeats."""
    for _, group in groupby(sections, key=lambda section: id(section.commands)):
        first, *repeats = group
        switch = " (switch)" if first.use.kind == "switch" else ""
        yield f"{first.name}{switch}", first
        if repeats:
            yield f"{_names(repeats)}: as {first.name}", None


def _names(sections: list[Section]) -> str:
    """What sections in a row are called together: steps by their numbers."""
    if not all(section.use.is_step for section in sections):
        return ", ".join(section.name for section in sections)
    first, last = sections[0].use.step, sections[-1].use.step
    return f"step {first}" if first == last else f"step {first}..{last}"


def _compact(line: ProgramLine, width: int) -> str:
    return f"  {line.stream:{width}} | {line.verb} {line.object}".rstrip()


def _full(line: ProgramLine, width: int, verb_width: int) -> str:
    details = f"{line.object}: {line.numbers}" if line.object and line.numbers else line.object + line.numbers
    return f"  {line.stream:{width}} | {line.verb:{verb_width}} | {details}".rstrip()


def line_of(command: Command) -> ProgramLine:
    """One command of a program in words."""
    verb, what, numbers = _DESCRIBE[command.__class__](command)
    return ProgramLine(*map(one_line, (stream_of(command) or HOST, verb, what, numbers)))


Words = tuple[str, str, str]


def _compute(command: Compute) -> Words:
    return "kernels", command.name + _uses(command), ", ".join(_kernels(command.kernels))


def _kernels(kernels: tuple[Kernel, ...]) -> Iterator[str]:
    """Per class: how many, and their FLOPs, or their bytes where they have none."""
    for name in dict.fromkeys(kernel.kernel_class for kernel in kernels):
        members = [kernel for kernel in kernels if kernel.kernel_class == name]
        flops, bytes_ = sum(kernel.flops for kernel in members), sum(kernel.bytes for kernel in members)
        yield f"{len(members)} {name} " + (f"{flops / 1e12:.3f} TFLOP" if flops else _megabytes(bytes_))


def _copy(command: Copy) -> Words:
    preposition = "to" if command.direction == "H2D" else "from"
    buffer = "" if command.buffer == command.name else f" {preposition} {command.buffer}"
    buffer = _piece(command.piece) + buffer
    memory = "never touched pageable" if command.host_memory == "fresh" else command.host_memory
    calls = f" in {command.calls} calls" if command.calls > 1 else ""
    return command.direction, command.name + buffer, f"{_megabytes(command.bytes)} {memory}{calls}"


def _collective(command: Collective) -> Words:
    group = _OVER.get(command.group, f" over {command.group} groups")
    what = command.name + _piece(command.piece) + group + _uses(command)
    return command.kind, what, f"{_megabytes(command.bytes)} sent"


_OVER = {SEQUENCE: "", WORLD: " over all ranks"}


def _piece(piece: Piece) -> str:
    return "" if piece == WHOLE else f" piece {piece[0] + 1} of {piece[1]}"


def _uses(command: Compute | Collective) -> str:
    """The buffers of a command, as `(reads a, b; writes c)`."""
    parts = [
        f"{verb} {', '.join(buffers)}"
        for verb, buffers in (("reads", command.reads), ("writes", command.writes))
        if buffers
    ]
    return f" ({'; '.join(parts)})" if parts else ""


def _allocate(command: Allocate) -> Words:
    pool = f"{command.pool} memory" if command.pool in HOST_POOLS else f"pool {command.pool}"
    return "allocate", f"{command.buffer} in {pool}", _megabytes(command.bytes)


def _recorded(command: Free) -> str:
    return f" once {', '.join(command.recorded)} gets here" if command.recorded else ""


def _megabytes(bytes_: float) -> str:
    return f"{bytes_ / 1e6:.1f} MB"


_DESCRIBE: dict[type, Callable[[Any], Words]] = {
    Compute: _compute,
    Copy: _copy,
    Collective: _collective,
    Record: lambda command: ("record", command.event, ""),
    Wait: lambda command: ("wait", command.event, ""),
    Synchronize: lambda command: ("synchronize", f"{command.scope} {command.target}".strip(), ""),
    Allocate: _allocate,
    Free: lambda command: ("free", command.buffer + _recorded(command), ""),
    HostWork: lambda command: ("work", command.name, f"{1e3 * command.duration:.3f} ms"),
}
