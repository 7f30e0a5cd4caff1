"""Resident: every weight of every expert is on the device before the first step, and stays."""

from collections.abc import Iterator

from ..commands import COMPUTE, Allocate, Command
from .hooks import PolicyProgram


class ResidentProgram(PolicyProgram):
    """No offloading."""

    name = "resident"

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert in range(self.sizes.experts):
            for index, count in enumerate(self.sizes.count):
                for block in range(count):
                    yield Allocate(self.weights(expert, index, block), self.sizes.block[index], COMPUTE)
