"""What each command of a block took in a run: its kernels, its collectives, its copies, as medians over blocks.

Made of spans, measured or simulated alike, so that an error of a whole step can be traced to the commands that it comes
from. A collective's span on a rank begins when that rank's kernel does: the shortest over ranks is the exchange, the
rest is waiting for the others. Spans cost two events a command, so runs that are scored have none.
"""

from collections.abc import Iterator
from statistics import median

from msgspec import Struct

from offsim.program.spans import Span
from offsim.program.timeline import Timeline

TIMED_KINDS = ("compute", "collective", "H2D", "D2H")


class BlockPart(Struct, frozen=True):
    """One command of a block, over all blocks and steps of a run."""

    kind: str
    name: str
    number: int
    """How many commands of its name come before it in the block."""
    seconds: tuple[float, ...]
    """The median of each rank [s]."""
    shortest: float
    """The median of the shortest of all ranks [s]."""
    count: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.kind, self.name, self.number


def parts_of(timeline: Timeline, begin: float) -> list[BlockPart]:
    """The commands of a run's blocks from `begin` [s] on, kind by kind in order of issue, which matches ranks."""
    by_rank = [_keyed([span for span in timeline.spans if span.rank == rank]) for rank in sorted(timeline.represented)]
    found: dict[tuple[str, str, int], list[tuple[float, ...]]] = {}
    for row in zip(*by_rank, strict=True):
        (key, first), *_ = row
        if first.start >= begin:
            found.setdefault(key, []).append(tuple(span.end - span.start for _, span in row))
    return [
        BlockPart(*key, tuple(median(ranks) for ranks in zip(*rows, strict=True)), median(map(min, rows)), len(rows))
        for key, rows in found.items()
    ]


def _keyed(spans: list[Span]) -> list[tuple[tuple[str, str, int], Span]]:
    """Each span with its key, stream by stream and kind by kind; an engine's spans repeat those of its stream."""
    queues: dict[tuple[str, str], list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        if span.kind in TIMED_KINDS and not span.track.endswith(" engine"):
            queues.setdefault((span.kind, span.track), []).append(span)
    return [pair for queue in sorted(queues) for pair in _numbered(queues[queue])]


def _numbered(spans: list[Span]) -> Iterator[tuple[tuple[str, str, int], Span]]:
    """Spans of one kind on one stream, each with how often its name has come since the block before."""
    block, seen = "", dict[str, int]()
    for span in spans:
        own, _, name = span.name.partition(" ")
        if own != block:
            block, seen = own, {}
        name = name or own.rstrip("0123456789").rstrip(".")
        seen[name] = seen.get(name, -1) + 1
        yield (span.kind, name, seen[name]), span
