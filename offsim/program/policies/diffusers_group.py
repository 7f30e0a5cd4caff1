"""diffusers' group offloading (enable_group_offload): groups of blocks, or of leaf modules, come and go by hooks.

With a stream, the first forward traces the order in which groups run, each bringing itself in and blocking; from then
on a group's pre-hook brings in the next one. It waits on the host for the copy stream, so copies never queue up, and
nothing waits for the compute stream: its memory is free, since a group's hook blocks the host until kernels have ended
(or, with record_stream, lets the allocator wait). The chain is not circular: the first group comes in when the
transformer's own hook runs. Host copies are pinned for good, or (low_cpu_mem_usage) pinned anew each time.
Without a stream, every group goes in and out by module.to(), pageable and blocking. At block level, what lies outside
the blocks is a group that does so even with a stream; its buffers move twice, since module.to() puts new ones into the
module while the group keeps the old ones.
Left out: offloading to disk; the copies and waits of a first forward are tensor by tensor, here group by group.
Source: diffusers 0.42.1 hooks/group_offloading.py.
"""

from collections.abc import Hashable, Iterator
from itertools import pairwise

from offsim.scenario.policy import DiffusersGroup
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command, Copy, Free, HostWork, Synchronize
from .hooks import EXPERT_NAMES, PolicyProgram, hook_work, moved_in, moved_out
from .modules import Module, modules_of, outside_module


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
        """Host copies: pinned if they are for good."""
        pinned = self.policy.stream and not self.policy.low_cpu_mem_usage
        for module in self.modules:
            yield Allocate(f"{module.buffer} on host", module.bytes, "pinned" if pinned else "pageable")

    def before(self, module: Module) -> Iterator[Command]:
        """pre_forward of a group's leader."""
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
        """onload_: the host waits for earlier copies, then puts this group's on the stream."""
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
        """post_forward of a group's leader: offload_."""
        yield from hook_work(self.policy.hook_cost)
        if not self.policy.stream:
            yield from moved_out(*module)
        elif self.policy.record_stream:
            yield Free(module.buffer, (COMPUTE,))
        else:
            yield Synchronize("stream", COMPUTE)
            yield Free(module.buffer)


class DiffusersGroupProgram(PolicyProgram):
    """Every expert's transformer with group offloading applied."""

    name = "diffusers-group"
    breaks_graph = True

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        policy = scenario.policy
        assert isinstance(policy, DiffusersGroup)
        self.policy = policy
        self.splits_blocks = policy.level == "leaf"
        self.roots, self.chains = [], list[Chain]()
        self.groups: list[dict[str, Module]] = []
        for expert in range(self.sizes.experts):
            root, modules = self._of_expert(expert)
            self.roots.append(root)
            self.groups.append({module.buffer: module for module in modules})
            self.chains.append(Chain(scenario, policy, expert, modules))

    def _of_expert(self, expert: int) -> tuple[Module, list[Module]]:
        """The group of the transformer's own hook, and all others in order."""
        if self.splits_blocks:
            first, *others = modules_of(self.scenario, expert)
            return first, others
        groups: dict[str, Module] = {}
        for index, count in enumerate(self.sizes.count):
            for block in range(count):
                name, bytes_ = self.weights(expert, index, block), self.sizes.block[index]
                before = groups.get(name, Module(name, 0.0, 0))
                groups[name] = Module(name, before.bytes + bytes_, before.tensors + self.sizes.tensors[index])
        return outside_module(self.scenario, expert, buffers_twice=True), list(groups.values())

    def weights(self, expert: int, index: int, block: int) -> str:
        """A group of several blocks is named for its first."""
        size = self.policy.num_blocks_per_group
        return super().weights(expert, index, block // size * size)

    def module_weights(self, expert: int, module: str) -> tuple[str, ...]:
        buffer = f"{EXPERT_NAMES[expert]}.{module}".rstrip(".")
        return (buffer,)

    def state(self) -> Hashable:
        return tuple(chain.traced for chain in self.chains)

    def load(self) -> Iterator[Command]:
        for root, chain in zip(self.roots, self.chains, strict=True):
            # At block level the group outside the blocks has no stream, so it is not pinned.
            pinned = self.splits_blocks and self.policy.stream and not self.policy.low_cpu_mem_usage
            yield Allocate(f"{root.buffer} on host", root.bytes, "pinned" if pinned else "pageable")
            yield from chain.load()

    def before_forward(self, expert: int) -> Iterator[Command]:
        """pre_forward of the transformer: its own group, then the first of the chain."""
        root, chain = self.roots[expert], self.chains[expert]
        if self.policy.stream and self.splits_blocks:
            yield from chain.onload(root)
        elif self.splits_blocks or chain.traced:
            yield from moved_in(*root)
        else:
            # There are no second buffers before the first module.to().
            yield from moved_in(*outside_module(self.scenario, expert))
        if self.policy.stream and chain.traced:
            yield from chain.onload(chain.modules[0])

    def after_forward(self, expert: int) -> Iterator[Command]:
        root, chain = self.roots[expert], self.chains[expert]
        yield from chain.after(root) if self.splits_blocks else moved_out(*root)
        chain.traced = True

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        if self._leads(index, block, last=False):
            yield from self.chains[expert].before(self._group(expert, index, block))

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        if self._leads(index, block, last=True):
            yield from self.chains[expert].after(self._group(expert, index, block))

    def _leads(self, index: int, block: int, *, last: bool) -> bool:
        """Whether a block is the first (the last) of its group; at leaf level each leads the group of its table."""
        size = self.policy.num_blocks_per_group
        ends = (block + 1) % size == 0 or block + 1 == self.sizes.count[index]
        return ends if last else block % size == 0

    def _group(self, expert: int, index: int, block: int) -> Module:
        return self.groups[expert][self.weights(expert, index, block)]

    def before_module(self, expert: int, module: str) -> Iterator[Command]:
        yield from self.chains[expert].before(self._module(expert, module))

    def after_module(self, expert: int, module: str) -> Iterator[Command]:
        yield from self.chains[expert].after(self._module(expert, module))

    def _module(self, expert: int, module: str) -> Module:
        return self.groups[expert][f"{EXPERT_NAMES[expert]}.{module}"]
