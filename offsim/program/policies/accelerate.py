"""accelerate's offloading as diffusers pipelines switch it on: whole components, or one module at a time.

enable_model_cpu_offload: components in a chain (text encoder, transformer, transformer_2, VAE). A component's pre-hook
moves the previous one out, if it is still there, and its own component in: module.to(), pageable, blocking.
enable_sequential_cpu_offload: a module's pre-hook copies its own tensors in, each pageable and blocking, and empties
the allocator's cache after each; its post-hook drops them. Nothing is written back, buffers stay on the device.
Left out: what emptying the cache costs, unless the scenario gives it; that memory goes back to the driver.
Source: accelerate 1.15.0 hooks.py, diffusers 0.42.1 pipelines/pipeline_utils.py.
"""

from collections.abc import Hashable, Iterator

from offsim.scenario.model import Component
from offsim.scenario.policy import AccelerateSequential
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command, Copy, Free, HostWork
from .hooks import EXPERT_NAMES, PolicyProgram, hook_work, moved_in, moved_out
from .modules import Module, modules_of, outside_module


class ModelOffloadProgram(PolicyProgram):
    """One component on the device at a time."""

    name = "accelerate-model"

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.on_device: Module | None = None
        self.transformers = [self._transformer(expert) for expert in range(self.sizes.experts)]

    def _transformer(self, expert: int) -> Module:
        sizes, outside = self.sizes, outside_module(self.scenario, expert)
        bytes_ = sum(n * b for n, b in zip(sizes.count, sizes.block, strict=True))
        tensors = sum(n * t for n, t in zip(sizes.count, sizes.tensors, strict=True))
        return Module(EXPERT_NAMES[expert], bytes_ + outside.bytes, tensors + outside.tensors)

    def state(self) -> Hashable:
        return self.on_device

    def weights(self, expert: int, index: int, block: int) -> str:
        return EXPERT_NAMES[expert]

    def other_weights(self, expert: int) -> tuple[str, ...]:
        return (EXPERT_NAMES[expert],)

    def load(self) -> Iterator[Command]:
        for transformer in self.transformers:
            yield Allocate(f"{transformer.buffer} on host", transformer.bytes, "pageable")

    def encode(self, component: Component) -> Iterator[Command]:
        yield from self._use(Module(component.name, component.weight_bytes, component.layers))

    def before_forward(self, expert: int) -> Iterator[Command]:
        yield from self._use(self.transformers[expert])

    def decode(self, component: Component) -> Iterator[Command]:
        yield from self._use(Module(component.name, component.weight_bytes, component.layers))

    def after_decoding(self, component: Component) -> Iterator[Command]:
        """maybe_free_model_hooks: everything back to the host."""
        yield from self._leave()

    def _use(self, component: Module) -> Iterator[Command]:
        """CpuOffload.pre_forward."""
        if self.on_device == component:
            return
        yield from self._leave()
        yield from moved_in(*component)
        self.on_device = component

    def _leave(self) -> Iterator[Command]:
        if self.on_device is not None:
            yield from moved_out(*self.on_device)
        self.on_device = None


class SequentialProgram(PolicyProgram):
    """One module's own tensors on the device at a time."""

    name = "accelerate-sequential"
    breaks_graph = True
    splits_blocks = True

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        policy = scenario.policy
        assert isinstance(policy, AccelerateSequential)
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
        """AlignDevicesHook.pre_forward."""
        buffer, bytes_, tensors = own = self._module(expert, module)
        yield from hook_work(self.policy.hook_cost)
        if self._is_buffers(own):
            return
        yield Allocate(buffer, bytes_, COMPUTE)
        yield Copy(COMPUTE, f"{buffer} in", "H2D", bytes_, "pageable", buffer, tensors)
        if self.policy.empty_cache:
            yield HostWork("empty cache", tensors * self.policy.empty_cache)

    def after_module(self, expert: int, module: str) -> Iterator[Command]:
        """AlignDevicesHook.post_forward: the tensors become meta tensors."""
        own = self._module(expert, module)
        yield from hook_work(self.policy.hook_cost)
        if not self._is_buffers(own):
            yield Free(own.buffer)

    def _module(self, expert: int, module: str) -> Module:
        return self.modules[expert][f"{EXPERT_NAMES[expert]}.{module}".rstrip(".")]
