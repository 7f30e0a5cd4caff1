"""Collectives over all ranks: who waits for whom, how fast the bytes flow, and who ends together."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from offsim.program.commands import Collective, Compute
from offsim.scenario.scenario import Scenario

from .instants import Done, after, near
from .walk import Walk

Call = dict[int, Done]
"""A collective as each of its ranks did it."""


def calls(walks: Sequence[Walk]) -> Iterator[Call]:
    """All calls of more than one rank: the n-th of a group on a stream is the same one on all its ranks."""
    found: dict[object, Call] = defaultdict(dict)
    for walk in walks:
        numbers: dict[object, int] = defaultdict(int)
        for stream, done in walk.done.items():
            for one in done:
                if isinstance(one.command, Collective) and len(walk.members[one.command.group]) > 1:
                    group = (walk.members[one.command.group], stream)
                    numbers[group] += 1
                    found[group, numbers[group]][walk.rank] = one
    yield from found.values()


def wrong_meetings(scenario: Scenario, walks: Sequence[Walk]) -> Iterator[str]:
    """What is wrong with the collectives of an unfolded trace."""
    for call in calls(walks):
        one = next(iter(call.values())).command
        title = f"{one.kind} {one.name!r}"
        for rank, done in call.items():
            yield from _arrival(walks[rank], done, title)
            meets = _meets(scenario, call, rank)
            if not near(done.began, meets):
                yield f"rank {rank}: {title} begins at {done.began}, the others were there at {meets}"
            least = _least(scenario, walks[rank], call, rank)
            if not after(done.end, least):
                yield f"rank {rank}: {title} ends at {done.end}, its bytes take until {least} at least"
        ends = [done.end for done in call.values()]
        if one.kind != "all-to-all" and not near(min(ends), max(ends)):
            yield f"{title}: its ranks end from {min(ends)} to {max(ends)}"


def _arrival(walk: Walk, done: Done, title: str) -> Iterator[str]:
    """Its kernel has the multiprocessors when it is ready, or when a kernel of another stream that runs then ends."""
    if near(done.start, done.ready):
        return
    running = [
        other
        for stream, others in walk.done.items()
        if stream != done.command.stream
        for other in others
        if isinstance(other.command, Compute) and other.start <= done.ready and after(other.end, done.start)
    ]
    if not running:
        yield f"rank {walk.rank}: {title} begins at {done.start}, not at {done.ready}, with no kernel in its way"


def _meets(scenario: Scenario, call: Call, rank: int) -> float:
    """When a rank no longer waits: in an all-to-all of pairs for the first of its peers, else for the last."""
    arrived, peers = call[rank].start, [done.start for other, done in call.items() if other != rank]
    pairs = call[rank].command.kind == "all-to-all" and scenario.simulation.collective_form == "pairs"
    return max(arrived, min(peers) if pairs else max(peers))


def _least(scenario: Scenario, walk: Walk, call: Call, rank: int) -> float:
    """The earliest end at its kernels' rate: all bytes since a rank began, and the last pair's since that met."""
    command, collectives = call[rank].command, scenario.node.wiring.collectives
    assert collectives is not None
    kind = collectives.all_to_all if command.kind == "all-to-all" else collectives.all_gather
    rate, latency = kind.rate.at(max(command.bytes, 1.0)), walk.latency(command)
    last = max(done.start for done in call.values()) + latency + command.bytes / (len(call) - 1) / rate
    if command.kind != "all-to-all":
        last = 0.0
    return max(call[rank].began + latency + command.bytes / rate, last)
