"""A made-up system: before every forward a block comes in by one blocking copy, and leaves after it."""

from collections.abc import Iterator

from offsim.program.commands import Allocate, Command, Copy, Free, Synchronize
from offsim.program.offloading.hooks import PolicyProgram
from offsim.program.offloading.page import LaunchLine, Page
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario


class OneByOne(Policy, frozen=True, tag="one-by-one"):
    """One block at a time, and nothing ahead."""

    pieces: int = 1
    """Copies that a block comes in."""


class OneByOnePage(Page[OneByOne]):
    """Blocks come when they run."""

    parameters = OneByOne

    def program(self, scenario: Scenario, policy: OneByOne) -> PolicyProgram:
        return OneByOneProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: OneByOne) -> str:
        return "policy.pieces=0: expected at least one" if policy.pieces == 0 else ""

    def launch_lines(self, scenario: Scenario, policy: OneByOne) -> Iterator[LaunchLine]:
        yield LaunchLine("Made-up 1.0", f"--one-by-one {policy.pieces}")


class OneByOneProgram(PolicyProgram):
    """Its hooks."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: OneByOne) -> None:
        super().__init__(scenario)
        self.pieces = policy.pieces

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert in range(self.sizes.experts):
            yield Allocate(f"expert {expert} on host", self.sizes.expert - self.sizes.other, "pinned")

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        name, bytes_ = self.weights(expert, index, block), self.sizes.block[index]
        yield Allocate(name, bytes_, "copy")
        for _ in range(self.pieces):
            yield Copy("copy", name, "H2D", bytes_ / self.pieces, "pinned", name)
        yield Synchronize("stream", "copy")

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield Synchronize("stream", "compute")
        yield Free(self.weights(expert, index, block))
