"""How the weights of one block get to the device: in which form, in how many pieces, over which streams.

Plain: pieces by H2D into the block's buffer. Sharded: each rank copies its 1/N of every piece into its place there, and
an all-gather on a stream of its own fills in the others' (a pipeline where there are several pieces), or one on the
compute stream, where the block is about to be used. Packed: what
arrives is smaller, and a kernel on the compute stream unpacks it into a second buffer before the block's first use.
Copy streams wait for the compute stream's tail before they write, as SGLang's do: the memory may have been a block's.
Assumes that the gathering communicator is its own, so that it does not stand in line with the model's collectives.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from offsim.scenario.model import DTYPE_BYTES
from offsim.scenario.scenario import Scenario

from ...commands import (
    COMPUTE,
    WHOLE,
    Allocate,
    Collective,
    Command,
    Compute,
    Copy,
    Free,
    Kernel,
    Piece,
    Record,
    Wait,
)
from ...offloading.hooks import wait_stream
from .parameters import ScheduledLayerwise

GATHER_STREAM = "all-gather"
BF16_BITS = 16


class Chunk(NamedTuple):
    """A piece of a block's weights."""

    buffer: str
    """What the block's kernels read."""
    bytes: float
    """Bytes of the whole block as kernels read it."""
    piece: Piece
    lane: int
    """Which copy stream it takes."""


def unpacking(packed: float, unpacked: float) -> Kernel:
    """The kernel that reads packed bytes and writes bf16: its `size` is the bits that two written bytes come in.

    >>> unpacking(351e6, 702e6)
    Kernel(kernel_class='unpack', flops=0.0, bytes=1053000000.0, size=8.0, shape=())
    """
    return Kernel("unpack", 0.0, packed + unpacked, BF16_BITS * packed / unpacked)


class Transfer:
    """Writes the commands that bring blocks of one expert to the device."""

    def __init__(self, scenario: Scenario, policy: ScheduledLayerwise, expert_name: str) -> None:
        own = f"copy {expert_name}"
        count = policy.copy_streams
        self.streams = [own] if count == 1 else [f"{own} {lane + 1}" for lane in range(count)]
        self.ranks = scenario.workload.gpus if policy.sharded else 1
        self.gathered_late = self.ranks > 1 and policy.gather == "compute-stream"
        self.packing = 1.0
        """Bytes that are moved per byte that kernels read."""
        if policy.transfer_dtype != "stored":
            self.packing = DTYPE_BYTES[policy.transfer_dtype] / DTYPE_BYTES[scenario.workload.weight_dtype]

    def arriving(self, buffer: str) -> str:
        """The buffer that is copied to."""
        return f"{buffer} packed" if self.packing < 1 else buffer

    def _copied(self, buffer: str) -> str:
        """What a rank copies of it."""
        return f"{self.arriving(buffer)} shard" if self.ranks > 1 else self.arriving(buffer)

    def pin(self, buffer: str, bytes_: float) -> Iterator[Command]:
        """Allocations of this rank's host copy of a block."""
        yield Allocate(f"{self._copied(buffer)} on host", self.packing * bytes_ / self.ranks, "pinned")

    def bring(self, chunks: Sequence[Chunk]) -> Iterator[Command]:
        """Issue these chunks here: none starts before what the compute stream has been given so far is done."""
        for lane in dict.fromkeys(chunk.lane for chunk in chunks):
            yield from wait_stream(self.streams[lane], COMPUTE)
        for chunk in chunks:
            yield from self._bring(chunk)

    def _bring(self, chunk: Chunk) -> Iterator[Command]:
        buffer, (which, count), stream = self.arriving(chunk.buffer), chunk.piece, self.streams[chunk.lane]
        moved = self.packing * chunk.bytes
        if which == 0:
            yield Allocate(buffer, moved, self.streams[0])
        part = moved / count
        yield Copy(stream, self._copied(chunk.buffer), "H2D", part / self.ranks, "pinned", buffer, piece=chunk.piece)
        if self.ranks == 1:
            if count - which <= len(self.streams):
                yield Record(stream, self._ready(buffer, chunk.lane))
            return
        yield Record(stream, self._copied_in(buffer, chunk.piece))
        if not self.gathered_late:
            yield from self._gather(chunk, GATHER_STREAM)
            if which == count - 1:
                yield Record(GATHER_STREAM, self._ready(buffer, 0))

    def _gather(self, chunk: Chunk, stream: str) -> Iterator[Command]:
        """What the other ranks have copied of a piece."""
        buffer, (_, count) = self.arriving(chunk.buffer), chunk.piece
        yield Wait(stream, self._copied_in(buffer, chunk.piece))
        sent = self.packing * chunk.bytes / count * (self.ranks - 1) / self.ranks
        gather = Collective(stream, f"{buffer} all-gather", "all-gather", sent, "world", (buffer,), (buffer,))
        yield gather._replace(piece=chunk.piece)

    def _copied_in(self, buffer: str, piece: Piece) -> str:
        """The event that a rank's own part of a piece is there."""
        return f"{buffer} copied in" if piece == WHOLE else f"{buffer} piece {piece[0] + 1} copied in"

    def _ready(self, buffer: str, lane: int) -> str:
        several = self.ranks == 1 and len(self.streams) > 1
        return f"{buffer} ready on {self.streams[lane]}" if several else f"{buffer} ready"

    def arrive(self, chunks: Sequence[Chunk]) -> Iterator[Command]:
        """The compute stream waits for all chunks of a block, and unpacks them."""
        buffer, bytes_ = chunks[0].buffer, chunks[0].bytes
        arriving = self.arriving(buffer)
        if self.gathered_late:
            for chunk in chunks:
                yield from self._gather(chunk, COMPUTE)
        else:
            for lane in dict.fromkeys(chunk.lane for chunk in chunks) if self.ranks == 1 else (0,):
                yield Wait(COMPUTE, self._ready(arriving, lane))
        if arriving != buffer:
            yield Allocate(buffer, bytes_, COMPUTE)
            kernel = unpacking(self.packing * bytes_, bytes_)
            yield Compute(COMPUTE, f"{buffer} unpack", (kernel,), (arriving,), (buffer,))
            yield Free(arriving)

    @property
    def lanes(self) -> list[str]:
        """The streams that copies and gathers are put on."""
        own = self.ranks == 1 or self.gathered_late
        return self.streams if own else [*self.streams, GATHER_STREAM]
