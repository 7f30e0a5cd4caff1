"""How programs are written: blocks that are alike share a template, forwards that are alike share a passage.

Spelled out they are the commands of `commands`, one by one; what bounds, folds and skips reads them as they stand here.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

from .commands import COMPUTE, Collective, Command, Compute, name_of


class Template(NamedTuple):
    """What all blocks of a list do on the compute stream, without their names: kernels and collectives only."""

    commands: tuple[Compute | Collective, ...]
    stream: str = COMPUTE


class Part(NamedTuple):
    """Commands in a row: a transformer block with its hooks, or (without a template) something else."""

    before: tuple[Command, ...]
    template: Template | None = None
    name: str = ""
    """What stands before the names of the template's commands."""
    reads: tuple[str, ...] = ()
    after: tuple[Command, ...] = ()

    def commands(self) -> Iterator[Command]:
        """All commands of the part, named."""
        yield from self.before
        for command in self.template.commands if self.template is not None else ():
            if isinstance(command, Compute):
                yield Compute(command.stream, self.name + command.name, command.kernels, self.reads)
            else:
                yield command._replace(name=self.name + command.name)
        yield from self.after

    def coarse(self) -> Iterator["Command | Template"]:
        """The part's commands, those of its template as one."""
        yield from self.before
        if self.template is not None:
            yield self.template
        yield from self.after

    @property
    def size(self) -> int:
        """How many commands the part has."""
        own = len(self.before) + len(self.after)
        return own if self.template is None else own + len(self.template.commands)

    def hook_at(self, number: int) -> Command:
        """The part's command `number`, which is none of the template's."""
        inside = number - len(self.before)
        if inside < 0 or self.template is None:
            return self.before[number]
        return self.after[inside - len(self.template.commands)]

    def name_at(self, number: int) -> str:
        """What a span of the part's command `number` is called."""
        inside = number - len(self.before)
        if inside < 0 or self.template is None:
            return name_of(self.before[number])
        if inside < len(self.template.commands):
            return self.name + self.template.commands[inside].name
        return name_of(self.after[inside - len(self.template.commands)])


Passage = tuple[Part, ...]
"""Parts in a row, as one forward has them: written once, whatever the number of forwards that are alike."""


class Written(Sequence[Command]):
    """A section's commands as passages; spelled out when somebody looks at them one by one."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.passages = tuple(passages)
        self._spelled_out: tuple[Command, ...] | None = None

    def _all(self) -> tuple[Command, ...]:
        if self._spelled_out is None:
            known: dict[int, list[Command]] = {}
            for passage in self.passages:
                if id(passage) not in known:
                    known[id(passage)] = [command for part in passage for command in part.commands()]
            self._spelled_out = tuple(command for passage in self.passages for command in known[id(passage)])
        return self._spelled_out

    @overload
    def __getitem__(self, index: int) -> Command: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Command]: ...
    def __getitem__(self, index: int | slice) -> Command | Sequence[Command]:
        return self._all()[index]

    def __len__(self) -> int:
        return sum(part.size for passage in self.passages for part in passage)

    def __iter__(self) -> Iterator[Command]:
        return iter(self._all())

    def __repr__(self) -> str:
        return f"Written({self._all()!r})"

    def same(self, other: "Written") -> bool:
        """Whether both have equal commands, type by type: tuples of different commands may have equal fields."""
        if len(self.passages) != len(other.passages):
            return False
        return all(a is b or _same(a, b) for a, b in zip(self.passages, other.passages, strict=True))


def _same(one: Passage, other: Passage) -> bool:
    return one == other and all(
        [type(c) for c in (*a.before, *a.after)] == [type(c) for c in (*b.before, *b.after)]
        for a, b in zip(one, other, strict=True)
    )


def passages_of(commands: Sequence[Command]) -> tuple[Passage, ...]:
    """A section's commands as passages: as they were written, or all in one part."""
    return commands.passages if isinstance(commands, Written) else ((Part(tuple(commands)),),)


def coarse(commands: Sequence[Command]) -> list[Command | Template]:
    """A section's commands, those that blocks have in common as one template."""
    return [command for passage in passages_of(commands) for part in passage for command in part.coarse()]


def stream_of(command: Command | Template) -> str | None:
    """The stream that a command is put on, if any."""
    return getattr(command, "stream", None)
