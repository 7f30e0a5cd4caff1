"""The order of events of SGLang's layerwise offload: when each expert's managers are asked to fetch and to release."""

from collections.abc import Hashable, Iterator

from offsim.scenario.scenario import Scenario

from ...commands import COMPUTE, Command, HostWork, Synchronize
from ...offloading.hooks import PolicyProgram
from .manager import Manager
from .parameters import SGLangLayerwise


class LayerwiseProgram(PolicyProgram):
    """Every expert's block lists under a manager; the rest of the transformers stays on the device."""

    breaks_graph = True

    def __init__(self, scenario: Scenario, policy: SGLangLayerwise) -> None:
        super().__init__(scenario)
        self.policy = policy
        self.active: int | None = None
        self.managers = [
            [Manager(policy, self.sizes, expert, index) for index in range(len(self.sizes.count))]
            for expert in range(self.sizes.experts)
        ]

    def state(self) -> Hashable:
        return self.active, tuple(frozenset(m.on_device) for managers in self.managers for m in managers)

    def load(self) -> Iterator[Command]:
        yield from self.hold_other_weights()
        for expert, managers in enumerate(self.managers):
            for manager in managers:
                yield from manager.pin()
                # V3's component manager brings an expert's first layers in when its use begins.
                if self.policy.version != "v3" or expert == 0:
                    yield from manager.initialize()

    def begin_step(self, expert: int) -> Iterator[Command]:
        """V3 ends the use of one expert and begins the other's; before, both keep their first layers."""
        if self.policy.version == "v3" and self.active not in (None, expert):
            assert self.active is not None
            for manager in self.managers[self.active]:
                yield from manager.release_all()
            for manager in self.managers[expert]:
                for layer in range(manager.prefetch_size):
                    yield from manager.prefetch(layer)
        self.active = expert

    def finish(self) -> Iterator[Command]:
        """V3 ends the denoise stage by releasing every layer; earlier versions keep theirs through decoding."""
        if self.policy.version == "v3":
            for manager in self.managers[self.active or 0]:
                yield from manager.release_all()

    def before_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield from self._hook()
        yield from self.managers[expert][index].before_layer(block)

    def after_block(self, expert: int, index: int, block: int) -> Iterator[Command]:
        yield from self._hook()
        yield from self.managers[expert][index].after_layer(block)

    def _hook(self) -> Iterator[Command]:
        """Costs that the ablations switch on: SGLang's own hooks neither block nor cost more than their calls."""
        if self.policy.hook_cost:
            yield HostWork("hook", self.policy.hook_cost)
        if self.policy.hook_synchronize:
            yield Synchronize("stream", COMPUTE)
