"""PyTorch FSDP2 with CPUOffloadPolicy(pin_memory=True), as SGLang applies it: one unit per block.

Before a block: its own 1/N shard by H2D on the copy-in stream, all-gather on its stream, copy-out into the full
parameters on the compute stream. Both gather streams wait for the copy-out of the block before, whose gather output is
freed then; since the host runs ahead, block i + 1 is gathered while block i computes. After a block its full parameters
are freed; no D2H. With one rank there is no collective and the copy runs on the compute stream itself.
Left out: the copy of a shard into the gather output (device to device); non-block (root) parameters are taken as
gathered once and kept.
Source: torch 2.13 torch/distributed/fsdp/_fully_shard.
"""

from collections.abc import Hashable, Iterator
from typing import Annotated

from msgspec import Meta

from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Collective, Command, Compute, Copy, Free, Kernel, Record, Wait
from ..offloading.hooks import PolicyProgram
from ..offloading.launch import sglang_line
from ..offloading.page import Ladder, LaunchLine, Page

COPY_IN, ALL_GATHER = "all-gather copy-in", "all-gather"


class FSDP(Policy, frozen=True, tag="fsdp"):
    """PyTorch FSDP2 with CPUOffloadPolicy(pin_memory=True): 1/N shard by H2D, then all-gather."""

    prefetch: Annotated[int, Meta(ge=1, le=8)] = 1
    """Blocks gathered when a block begins, its own included; 1 is FSDP's implicit prefetch."""


class FSDPPage(Page[FSDP]):
    """One unit per block, sharded over all ranks."""

    parameters = FSDP
    listed = 40
    replayed_as = "streams"

    def program(self, scenario: Scenario, policy: FSDP) -> PolicyProgram:
        return FSDPProgram(scenario, policy)

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """FSDP's own prefetch, and one block more."""
        if scenario.workload.gpus > 1:
            yield (FSDP(prefetch=1),)
            yield (FSDP(prefetch=2),)

    def launch_lines(self, scenario: Scenario, policy: FSDP) -> Iterator[LaunchLine]:
        if policy.prefetch == 1:
            yield from sglang_line(scenario, "until mid 2026", "--use-fsdp-inference true --dit-cpu-offload true")


class FSDPProgram(PolicyProgram):
    """Shards over all ranks; each block gathered before its forward."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: FSDP) -> None:
        super().__init__(scenario)
        self.ranks = scenario.workload.gpus
        self.ahead = policy.prefetch
        self.issued: list[tuple[int, int]] = []
        self.gathered: str | None = None
        self.outputs: dict[tuple[int, int], str] = {}
        self.order = [(index, block) for index, count in enumerate(self.sizes.count) for block in range(count)]

    def state(self) -> Hashable:
        return self.gathered, tuple(self.issued)

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert in range(self.sizes.experts):
            for index, block in self.order:
                name = self.weights(expert, index, block)
                yield Allocate(f"{name} shard on host", self.sizes.block[index] / self.ranks, "pinned")

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        name, bytes_ = self.weights(expert, index, block), self.sizes.block[index]
        if self.ranks == 1:
            yield Allocate(f"{name} shard", bytes_, COMPUTE)
            yield Copy(COMPUTE, f"{name} shard", "H2D", bytes_, "pinned", f"{name} shard", self.sizes.tensors[index])
            yield from self._copy_out(name, f"{name} shard", bytes_)
            yield Free(f"{name} shard")
            return
        position = self.order.index((index, block))
        for unit in self.order[position : position + self.ahead]:
            if unit not in self.issued:
                yield from self._unshard(expert, *unit)
        self.issued.remove((index, block))
        yield from self._free_previous()
        yield Wait(COMPUTE, f"{name} gathered")
        output = self.outputs.pop((index, block))
        yield from self._copy_out(name, output, bytes_)
        yield Record(COMPUTE, "copy-out")
        self.gathered = output

    def _free_previous(self) -> Iterator[Command]:
        """wait_for_unshard: the gather streams wait for the previous copy-out, then its buffer may be reused."""
        if self.gathered is not None:
            yield Wait(COPY_IN, "copy-out")
            yield Wait(ALL_GATHER, "copy-out")
            yield Free(self.gathered)

    def _unshard(self, expert: int, index: int, block: int) -> Iterator[Command]:
        """Copy-in of the own shard, then the all-gather."""
        name, bytes_ = self.weights(expert, index, block), self.sizes.block[index]
        output, shard = f"{name} all-gather output", bytes_ / self.ranks
        if output == self.gathered:
            output = f"{name} next all-gather output"
        self.outputs[index, block] = output
        yield Allocate(output, bytes_, COPY_IN)
        yield Copy(COPY_IN, f"{name} shard", "H2D", shard, "pinned", output, self.sizes.tensors[index])
        yield Record(COPY_IN, f"{name} copied in")
        yield Wait(ALL_GATHER, f"{name} copied in")
        sent = bytes_ * (self.ranks - 1) / self.ranks
        yield Collective(ALL_GATHER, f"{name} all-gather", "all-gather", sent, "world", (output,), (output,))
        yield Record(ALL_GATHER, f"{name} gathered")
        self.issued.append((index, block))

    def _copy_out(self, name: str, source: str, bytes_: float) -> Iterator[Command]:
        yield Allocate(name, bytes_, COMPUTE)
        kernel = Kernel("elementwise", 0.0, 2 * bytes_, 1.0, (1, round(bytes_)))
        yield Compute(COMPUTE, f"{name} copy-out", (kernel,), (source,), (name,))

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield Free(self.weights(expert, index, block))

    def finish(self) -> Iterator[Command]:
        if self.gathered is not None:
            yield Free(self.gathered)
            self.gathered = None
