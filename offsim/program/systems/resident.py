"""Resident: every weight of every expert is on the device before the first step, and stays.

Every system has it: SGLang with its offload flags off, diffusers with pipe.to("cuda").
"""

from collections.abc import Iterator

from offsim.scenario.policy import Placement, Policy
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command
from ..offloading.hooks import PolicyProgram
from ..offloading.launch import diffusers_line, sglang_line
from ..offloading.page import Ladder, LaunchLine, Page

NO_OFFLOAD = "--dit-cpu-offload false --dit-layerwise-offload false"


class Resident(Policy, frozen=True, tag="resident"):
    """Every weight of every component stays on the device."""

    text_encoder: Placement = "resident"
    vae: Placement = "resident"


class ResidentPage(Page[Resident]):
    """No offloading."""

    parameters = Resident
    listed = 10
    replayed_as = "streams"

    def program(self, scenario: Scenario, policy: Resident) -> PolicyProgram:
        return ResidentProgram(scenario)

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """Everything on the device, or the text encoder and the VAE only while they work."""
        yield (Resident(),)
        yield (Resident(text_encoder="sharded", vae="swap"),)

    def launch_lines(self, scenario: Scenario, policy: Resident) -> Iterator[LaunchLine]:
        yield from sglang_line(scenario, "any", NO_OFFLOAD)
        if policy == Resident():
            yield from diffusers_line(scenario, 'pipe.to("cuda")')


class ResidentProgram(PolicyProgram):
    """Loading, and nothing else."""

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert in range(self.sizes.experts):
            for index, count in enumerate(self.sizes.count):
                for block in range(count):
                    yield Allocate(self.weights(expert, index, block), self.sizes.block[index], COMPUTE)
