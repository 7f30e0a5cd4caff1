"""The order of events of scheduled layerwise streaming: which block is asked for when, and where in a block."""

from collections.abc import Hashable, Iterator
from itertools import islice

from offsim.scenario.scenario import Scenario

from ...commands import COMPUTE, Command, Free
from ...offloading.hooks import EXPERT_NAMES, PolicyProgram, wait_stream
from ...offloading.layers import resident_blocks
from ...passages import Template
from .parameters import ScheduledLayerwise
from .places import collectives, place_of, shares, windows
from .transfer import Chunk, Transfer

StopPlace = int
Block = tuple[int, int]
"""Expert and position in its chain."""


class ScheduledLayerwiseProgram(PolicyProgram):
    """Every expert's blocks as one chain; the rest of the transformers stays on the device."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: ScheduledLayerwise) -> None:
        super().__init__(scenario)
        self.policy = policy
        self.forwards = scenario.workload.forwards(scenario.model)
        self.chain = [(index, block) for index, count in enumerate(self.sizes.count) for block in range(count)]
        self.kept = resident_blocks(policy.resident_layers, len(self.chain), policy.residency)
        self.transfers = [Transfer(scenario, policy, name) for name in EXPERT_NAMES[: self.sizes.experts]]
        if policy.copy_priority == "high":
            self.high_priority = tuple(stream for transfer in self.transfers for stream in transfer.streams)
        self.on_device: set[Block] = set()
        """Requested and not released."""
        self.arrived: set[Block] = set()
        """Those of them that the compute stream has waited for."""
        self.active: int | None = None
        self.due: dict[tuple[StopPlace, int], list[Chunk]] = {}
        """Requested in this block: at which place which expert's chunks are issued."""
        self.outstanding: tuple[str, ...] = ()
        """Streams on which chunks were admitted that no collective has waited for."""
        self.places: dict[int, list[StopPlace]] = {}
        """Where each chunk is issued, by block list."""
        self.gates: dict[int, list[StopPlace]] = {}
        """The places before collectives, by block list, if they are gated."""

    def state(self) -> Hashable:
        coming = self.upcoming[: self.forwards + 1]
        return self.active, frozenset(self.on_device), frozenset(self.arrived), self.outstanding, coming

    def stops(self, index: int, template: Template) -> list[StopPlace]:
        chunks, placing = self.policy.chunks, self.policy.placement
        paced = placing in ("spread", "gated")
        places = shares(chunks, windows(template)) if paced else [place_of(placing, template)] * chunks
        gates = collectives(template) if placing == "gated" else []
        self.places[index], self.gates[index] = places, gates
        return sorted({*places, *gates} - {0})

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert, transfer in enumerate(self.transfers):
            for position in range(len(self.chain)):
                yield from transfer.pin(self._buffer(expert, position), self._bytes(position))
            if expert == 0 or self.policy.across_switch == "held":
                yield from self._bring_first(expert)

    def _bring_first(self, expert: int) -> Iterator[Command]:
        """The first P blocks, at once."""
        for position in range(self.policy.prefetch):
            yield from self._bring_now(expert, position)

    def _bring_now(self, expert: int, position: int) -> Iterator[Command]:
        """A block that nobody has requested."""
        if (expert, position) not in self.on_device:
            yield from self.transfers[expert].bring(self._chunks(expert, position))
            self.on_device.add((expert, position))

    def begin_step(self, expert: int) -> Iterator[Command]:
        """Commands of a step's start: at a switch the first expert's blocks go, but for the first P if held."""
        if self.active not in (None, expert):
            held = self.policy.prefetch if self.policy.across_switch == "held" else 0
            for block in sorted(block for block in self.on_device if block[0] == self.active and block[1] >= held):
                yield from self._release(block)
            yield from self._bring_first(expert)
        self.active = expert

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        position = self.chain.index((index, block))
        yield from self._bring_now(expert, position)
        if (expert, position) not in self.arrived:
            yield from self.transfers[expert].arrive(self._chunks(expert, position))
            self.arrived.add((expert, position))
        for wanted in self._requested(expert, position):
            self.on_device.add(wanted)
            for chunk, place in zip(self._chunks(*wanted), self.places[index], strict=True):
                self.due.setdefault((place, wanted[0]), []).append(chunk)
        yield from self.within_block(expert, index, block, 0)

    def within_block(self, expert: int, index: int, block: int, stop: StopPlace) -> Iterator[Command]:
        if stop in self.gates[index]:
            for stream in self.outstanding:
                yield from wait_stream(COMPUTE, stream)
            self.outstanding = ()
        for number, transfer in enumerate(self.transfers):
            chunks = self.due.pop((stop, number), [])
            if chunks:
                yield from transfer.bring(chunks)
                if self.policy.placement == "gated":
                    self.outstanding = tuple(dict.fromkeys((*self.outstanding, *transfer.lanes)))

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        position = self.chain.index((index, block))
        if position not in self.kept:
            yield from self._release((expert, position))

    def finish(self) -> Iterator[Command]:
        """The end of denoising releases every block, as SGLang v3 does."""
        for block in sorted(self.on_device):
            yield from self._release(block)

    def _requested(self, expert: int, position: int) -> list[Block]:
        """Of the next P blocks that are not on the device for good, those that are not on their way yet."""
        streamed = (b for b in self._following(expert, position) if not (b[1] in self.kept and b in self.arrived))
        return [block for block in islice(streamed, self.policy.prefetch) if block not in self.on_device]

    def _following(self, expert: int, position: int) -> Iterator[Block]:
        """Blocks in the order in which they are used after this one, once around."""
        yield from ((expert, later) for later in range(position + 1, len(self.chain)))
        coming = self.upcoming[1] if len(self.upcoming) > 1 else None
        if self.policy.across_switch == "held":
            coming = expert
        elif self.policy.across_switch == "fetched" and coming != expert:
            coming = None
        if coming is not None:
            yield from ((coming, later) for later in range(position if coming == expert else len(self.chain)))

    def _chunks(self, expert: int, position: int) -> list[Chunk]:
        """The copies of a block; they take turns on the copy streams, from block to block too."""
        count, lanes = self.policy.chunks, self.policy.copy_streams
        first, buffer, bytes_ = position * count, self._buffer(expert, position), self._bytes(position)
        return [Chunk(buffer, bytes_, (k, count), (first + k) % lanes) for k in range(count)]

    def _release(self, block: Block) -> Iterator[Command]:
        """Its memory returns to its pool, in host order."""
        buffer = self._buffer(*block)
        yield Free(buffer if block in self.arrived else self.transfers[block[0]].arriving(buffer))
        self.on_device.discard(block)
        self.arrived.discard(block)

    def _buffer(self, expert: int, position: int) -> str:
        return self.sizes.buffer(expert, *self.chain[position])

    def _bytes(self, position: int) -> float:
        return self.sizes.block[self.chain[position][0]]
