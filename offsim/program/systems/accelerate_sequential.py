"""accelerate's one module at a time, as diffusers switches it on (enable_sequential_cpu_offload).

A module's pre-hook copies its own tensors in, each pageable and blocking, and empties the allocator's cache after each;
its post-hook drops them. Nothing is written back, buffers stay on the device.
Left out: what emptying the cache costs, unless the scenario gives it; that memory goes back to the driver.
Source: accelerate 1.15.0 hooks.py, diffusers 0.42.1 pipelines/pipeline_utils.py.
"""

from collections.abc import Iterator

from offsim.scenario.policy import Placement, Policy
from offsim.scenario.scenario import Scenario
from offsim.scenario.units import Seconds

from ..commands import COMPUTE, Allocate, Command, Copy, Free, HostWork
from ..offloading.hooks import EXPERT_NAMES, PolicyProgram, hook_work
from ..offloading.launch import diffusers_line
from ..offloading.modules import Module, modules_of, why_not_by_module
from ..offloading.page import Ladder, LaunchLine, Page


class AccelerateSequential(Policy, frozen=True, tag="accelerate-sequential"):
    """diffusers' enable_sequential_cpu_offload: every module's tensors are copied in when it runs; pageable."""

    empty_cache: Seconds = 0.0
    """Host time per tensor of emptying the allocator's cache, with what asking the driver for memory anew costs."""
    hook_cost: Seconds = 0.0
    """Host time of every hook besides its calls: what the library's own Python takes."""
    text_encoder: Placement = "sharded"
    """sharded, since the library's hooks are on its modules, too: one after the other is on the device."""


class AccelerateSequentialPage(Page[AccelerateSequential]):
    """Every module's own tensors come when it runs."""

    parameters = AccelerateSequential
    listed = 80
    replayed_as = "library"

    def program(self, scenario: Scenario, policy: AccelerateSequential) -> PolicyProgram:
        return SequentialProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: AccelerateSequential) -> str:
        return why_not_by_module(scenario, "policy 'accelerate-sequential'", "'accelerate-model'")

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """The policy without parameters, on one GPU."""
        if scenario.workload.gpus == 1:
            yield (AccelerateSequential(),)

    def launch_lines(self, scenario: Scenario, policy: AccelerateSequential) -> Iterator[LaunchLine]:
        yield from diffusers_line(scenario, "pipe.enable_sequential_cpu_offload()")


class SequentialProgram(PolicyProgram):
    """One module's own tensors on the device at a time."""

    breaks_graph = True
    splits_blocks = True

    def __init__(self, scenario: Scenario, policy: AccelerateSequential) -> None:
        super().__init__(scenario)
        self.policy = policy
        self.modules = [
            {module.buffer: module for module in modules_of(scenario, expert)} for expert in range(self.sizes.experts)
        ]

    def module_weights(self, expert: int, module: str) -> tuple[str, ...]:
        return (self._module(expert, module).buffer,)

    def load(self) -> Iterator[Command]:
        """Weights stay pageable on the host for good; buffers are put on the device."""
        for modules in self.modules:
            for module in modules.values():
                if self._is_buffers(module):
                    yield Allocate(module.buffer, module.bytes, COMPUTE)
                else:
                    yield Allocate(f"{module.buffer} on host", module.bytes, "pageable")

    def _is_buffers(self, module: Module) -> bool:
        return module.buffer.endswith(".rope")

    def before_forward(self, expert: int) -> Iterator[Command]:
        yield from self.before_module(expert, "")

    def after_forward(self, expert: int) -> Iterator[Command]:
        yield from self.after_module(expert, "")

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield from self.before_module(expert, f"{self.sizes.names[index]}.{block}")

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield from self.after_module(expert, f"{self.sizes.names[index]}.{block}")

    def before_module(self, expert: int, module: str) -> Iterator[Command]:
        """Commands of accelerate's AlignDevicesHook.pre_forward."""
        buffer, bytes_, tensors = own = self._module(expert, module)
        yield from hook_work(self.policy.hook_cost)
        if self._is_buffers(own):
            return
        yield Allocate(buffer, bytes_, COMPUTE)
        yield Copy(COMPUTE, f"{buffer} in", "H2D", bytes_, "pageable", buffer, tensors)
        if self.policy.empty_cache:
            yield HostWork("empty cache", tensors * self.policy.empty_cache)

    def after_module(self, expert: int, module: str) -> Iterator[Command]:
        """Commands of accelerate's AlignDevicesHook.post_forward: the tensors become meta tensors."""
        own = self._module(expert, module)
        yield from hook_work(self.policy.hook_cost)
        if not self._is_buffers(own):
            yield Free(own.buffer)

    def _module(self, expert: int, module: str) -> Module:
        return self.modules[expert][f"{EXPERT_NAMES[expert]}.{module}".rstrip(".")]
