"""accelerate's whole components as diffusers switches them on (enable_model_cpu_offload): one on the device at a time.

Components are a chain (text encoder, transformer, transformer_2, VAE). A component's pre-hook moves the previous one
out, if it is still there, and its own component in: module.to(), pageable, blocking.
Source: accelerate 1.15.0 hooks.py, diffusers 0.42.1 pipelines/pipeline_utils.py.
"""

from collections.abc import Hashable, Iterator
from typing import Literal

from offsim.scenario.model import Component
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from ..commands import Allocate, Command
from ..offloading.hooks import EXPERT_NAMES, PolicyProgram, moved_in, moved_out
from ..offloading.launch import diffusers_line
from ..offloading.modules import Module, outside_module
from ..offloading.page import Ladder, LaunchLine, Page


class AccelerateModel(Policy, frozen=True, tag="accelerate-model"):
    """diffusers' enable_model_cpu_offload: one component on the device at a time, moved by module.to()."""

    # No placement like the others': these components move when the next one in the chain does.
    text_encoder: Literal["chain"] = "chain"  # type: ignore[assignment]
    """chain: components push each other out, so that one at a time is on the device."""
    vae: Literal["chain"] = "chain"  # type: ignore[assignment]


class AccelerateModelPage(Page[AccelerateModel]):
    """Components push each other out."""

    parameters = AccelerateModel
    listed = 70

    def program(self, scenario: Scenario, policy: AccelerateModel) -> PolicyProgram:
        return ModelOffloadProgram(scenario)

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """The policy without parameters, on one GPU."""
        if scenario.workload.gpus == 1:
            yield (AccelerateModel(),)

    def launch_lines(self, scenario: Scenario, policy: AccelerateModel) -> Iterator[LaunchLine]:
        yield from diffusers_line(scenario, "pipe.enable_model_cpu_offload()")


class ModelOffloadProgram(PolicyProgram):
    """One component on the device at a time."""

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
