"""The order of events of diffusers' group offloading: whose hooks run when."""

from collections.abc import Hashable, Iterator

from offsim.scenario.scenario import Scenario

from ...commands import Allocate, Command
from ...offloading.hooks import EXPERT_NAMES, PolicyProgram, moved_in, moved_out
from ...offloading.modules import Module, modules_of, outside_module
from .chain import Chain
from .parameters import DiffusersGroup


class DiffusersGroupProgram(PolicyProgram):
    """Every expert's transformer with group offloading applied."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: DiffusersGroup) -> None:
        super().__init__(scenario)
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
        """The buffer that a block's kernels read: a group of several blocks is named for its first."""
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
        """Commands of pre_forward of the transformer: its own group, then the first of the chain."""
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
