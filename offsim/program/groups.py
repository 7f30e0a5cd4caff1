"""Parallel groups by name: which ranks of a program call a collective together.

A partition divides all ranks of a program into groups; every rank is in one of them. A program may have several: its
sequence-parallel groups, the pairs that share a guided sample, tensor-parallel groups. A partition may lie inside
another one: each of its groups is within one group of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Ranks = tuple[int, ...]
Partition = tuple[Ranks, ...]

WORLD = "world"
"""All ranks in one group: every program has this partition."""
SEQUENCE = "sequence"
"""Ranks that share the tokens of one sample (Ulysses)."""
CFG = "cfg"
"""Ranks that hold the same tokens, of the conditional and of the unconditional sample."""


@dataclass(frozen=True)
class ParallelGroups:
    """The partitions of a program's ranks, by name; `world`, all ranks in one group, is always there.

    Raises ValueError for a partition that lacks a rank or has one twice, whose groups differ in size and are not
    `uneven`, or that does not lie `inside` the other one named there.
    """

    ranks: int
    """How many ranks the program has; their numbers count from 0."""
    named: Mapping[str, Partition]
    """All partitions but `world`."""
    inside: Mapping[str, str] = field(default_factory=dict)
    """Which partition lies inside which other one, as far as that is not `world`."""
    uneven: frozenset[str] = frozenset()
    """Partitions whose groups may differ in size."""

    def __post_init__(self) -> None:
        for name, partition in self.named.items():
            problem = self._problem(name, partition)
            if problem:
                raise ValueError(f"groups.{name}={partition}: {problem}")

    def _problem(self, name: str, partition: Partition) -> str:
        """What is wrong with a partition; empty if nothing is."""
        if name == WORLD:
            return "this name is kept for all ranks in one group"
        if sorted(rank for group in partition for rank in group) != list(range(self.ranks)):
            return f"each of {self.ranks} ranks must be in exactly one group"
        if name not in self.uneven and len({len(group) for group in partition}) > 1:
            return "its groups differ in size"
        outer = self.inside.get(name, WORLD)
        if outer not in self:
            return f"it lies inside {outer!r}, which is not there"
        wholes = [frozenset(group) for group in self[outer]]
        if not all(any(whole.issuperset(group) for whole in wholes) for group in partition):
            return f"a group is not within one of {outer!r}"
        return ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all partitions, `world` first."""
        return (WORLD, *self.named)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> Partition:
        return (tuple(range(self.ranks)),) if name == WORLD else self.named[name]

    def of(self, name: str, rank: int) -> Ranks:
        """The group of a partition that a rank is in."""
        return next(group for group in self[name] if rank in group)


def sequence_groups(*groups: Ranks) -> ParallelGroups:
    """The partitions of a program whose ranks are only divided into these sequence-parallel groups.

    >>> sequence_groups((0, 1), (2, 3)).of("world", 2)
    (0, 1, 2, 3)
    """
    return ParallelGroups(sum(map(len, groups)), {SEQUENCE: groups})
