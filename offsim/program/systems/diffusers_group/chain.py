"""diffusers' ModuleGroups of one transformer: how a group comes in before it runs and leaves after."""

from collections.abc import Iterator
from itertools import pairwise

from offsim.scenario.scenario import Scenario

from ...commands import COMPUTE, Allocate, Command, Copy, Free, HostWork, Synchronize
from ...offloading.hooks import EXPERT_NAMES, hook_work, moved_in, moved_out
from ...offloading.modules import Module
from .parameters import DiffusersGroup


class Chain:
    """The groups of one transformer, in the order in which they run, and their ModuleGroup's methods."""

    def __init__(self, scenario: Scenario, policy: DiffusersGroup, expert: int, modules: list[Module]) -> None:
        self.policy, self.modules = policy, modules
        self.copy_stream = f"copy {EXPERT_NAMES[expert]}"
        self.traced = False
        self._next = {module.buffer: after for module, after in pairwise(modules)}
        # Pinning copies within the host's memory; the nearest rate that nodes have is that of a pageable copy.
        self._pin_rate = scenario.node.host.pageable_h2d.value

    def load(self) -> Iterator[Command]:
        """Allocations of the host copies: pinned if they are for good."""
        pinned = self.policy.stream and not self.policy.low_cpu_mem_usage
        for module in self.modules:
            yield Allocate(f"{module.buffer} on host", module.bytes, "pinned" if pinned else "pageable")

    def before(self, module: Module) -> Iterator[Command]:
        """Commands of pre_forward of a group's leader."""
        yield from hook_work(self.policy.hook_cost)
        if not self.policy.stream:
            yield from moved_in(*module)
        elif not self.traced:
            yield from self.onload(module)
            yield Synchronize("stream", self.copy_stream)
        elif module.buffer in self._next:
            yield from self.onload(self._next[module.buffer])
        else:
            yield Synchronize("stream", self.copy_stream)

    def onload(self, module: Module) -> Iterator[Command]:
        """Commands of onload_: the host waits for earlier copies, then puts this group's on the stream."""
        buffer, staged = module.buffer, f"{module.buffer} staged on host"
        yield Synchronize("stream", self.copy_stream)
        if self.policy.low_cpu_mem_usage:
            yield Allocate(staged, module.bytes, "pinned")
            yield HostWork(f"pin {buffer}", module.bytes / self._pin_rate)
        yield Allocate(buffer, module.bytes, self.copy_stream)
        yield Copy(self.copy_stream, buffer, "H2D", module.bytes, "pinned", buffer, module.tensors)
        if self.policy.low_cpu_mem_usage:
            yield Free(staged)

    def after(self, module: Module) -> Iterator[Command]:
        """Commands of post_forward of a group's leader, which is offload_."""
        yield from hook_work(self.policy.hook_cost)
        if not self.policy.stream:
            yield from moved_out(*module)
        elif self.policy.record_stream:
            yield Free(module.buffer, (COMPUTE,))
        else:
            yield Synchronize("stream", COMPUTE)
            yield Free(module.buffer)
