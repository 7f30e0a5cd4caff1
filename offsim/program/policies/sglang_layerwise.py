"""SGLang's layerwise offload (--dit-layerwise-offload), versions V0 to V3.

One manager per ModuleList and expert, each with its own copy stream. Weights are read-only: no D2H ever; releasing
rebinds the parameters, so the memory returns to its pool in host order. Safety comes from the copy stream waiting for
the compute stream before every copy. Sources: sgl-project/sglang layerwise_offload.py at PR 15511 (V0), PR 16150 and
17693 (V1), its April 2026 form (V2), PR 31538 and 34534 (V3). Left out: V3's parking of non-layer weights between uses.
"""

from collections.abc import Hashable, Iterator

from offsim.scenario.policy import SGLangLayerwise, prefetch_count, resident_blocks
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command, Copy, Free, HostMemory, HostWork, Record, Synchronize, Wait
from .hooks import EXPERT_NAMES, PolicyProgram, Weights, wait_stream


class Manager:
    """LayerwiseOffloadManager of one ModuleList."""

    def __init__(self, policy: SGLangLayerwise, sizes: Weights, expert: int, index: int) -> None:
        self.policy, self.sizes, self.expert, self.index = policy, sizes, expert, index
        self.count = sizes.count[index]
        self.prefetch_size = prefetch_count(policy.prefetch, self.count)
        self.residents = resident_blocks(policy.resident_layers, self.count, policy.residency)
        self.streamed = [layer for layer in range(self.count) if layer not in self.residents]
        self.on_device: set[int] = set()
        lists = len(sizes.count)
        suffix = f".{sizes.names[index]}" if lists > 1 else ""
        self.copy_stream = f"copy {EXPERT_NAMES[expert]}{suffix}"
        # V0 allocates on the current stream, later versions inside the copy stream's context.
        self.pool = COMPUTE if policy.version == "v0" else self.copy_stream
        self.keeps_first = policy.version in ("v0", "v1")

    def buffer(self, layer: int) -> str:
        return self.sizes.buffer(self.expert, self.index, layer)

    def pin(self) -> Iterator[Command]:
        """One host copy per layer."""
        memory = "pinned" if self.policy.pinned else "pageable"
        for layer in range(self.count):
            yield Allocate(f"{self.buffer(layer)} on host", self.sizes.block[self.index], memory)

    def prefetch(self, layer: int, *, blocking: bool = False) -> Iterator[Command]:
        """prefetch_layer: copy stream waits for the compute stream's tail, allocates, copies, records; idempotent."""
        if layer in self.on_device:
            return
        bytes_ = self.sizes.block[self.index]
        calls = self.sizes.tensors[self.index] if self.policy.version == "v0" else 1
        buffer = self.buffer(layer)
        memory: HostMemory = "pinned" if self.policy.pinned else "pageable"
        yield from wait_stream(self.copy_stream, COMPUTE)
        yield Allocate(buffer, bytes_, self.pool)
        yield Copy(self.copy_stream, buffer, "H2D", bytes_, memory, buffer, calls)
        if blocking:
            yield Synchronize("stream", self.copy_stream)
        if self.policy.version != "v0":
            yield Record(self.copy_stream, f"{buffer} ready")
        self.on_device.add(layer)

    def release(self, layer: int) -> Iterator[Command]:
        """release_layer: back to the pool at once, in host order."""
        kept = layer in self.residents or (self.keeps_first and layer == 0)
        if layer in self.on_device and not kept:
            self.on_device.discard(layer)
            yield Free(self.buffer(layer))

    def release_all(self) -> Iterator[Command]:
        yield from wait_stream(COMPUTE, self.copy_stream)
        for layer in sorted(self.on_device):
            yield Free(self.buffer(layer))
        self.on_device.clear()

    def initialize(self) -> Iterator[Command]:
        """prepare_for_next_req(non_blocking=False): layer 0 (V0) or the first P layers, and wait for them."""
        first = 1 if self.policy.version == "v0" else self.prefetch_size
        for layer in range(first):
            yield from self.prefetch(layer, blocking=True)
        yield from wait_stream(COMPUTE, self.copy_stream)

    def before_layer(self, layer: int) -> Iterator[Command]:
        if self.policy.version == "v0":
            if layer + 1 < self.count:
                yield from self.prefetch(layer + 1)
            return
        if layer == 0:
            yield from self._begin_pass()
        if self.policy.version == "v3":
            yield from self.prefetch(layer, blocking=True)
        yield Wait(COMPUTE, f"{self.buffer(layer)} ready")
        for ahead in self._requested(layer):
            yield from self.prefetch(ahead)

    def _begin_pass(self) -> Iterator[Command]:
        """pre-hook of layer 0: what must be there is there, then the compute stream drains the copy stream."""
        if self.policy.version == "v3":
            for layer in sorted(self.residents):
                yield from self.prefetch(layer, blocking=True)
            yield from wait_stream(COMPUTE, self.copy_stream)
            for layer in self.streamed[: self.prefetch_size]:
                yield from self.prefetch(layer)
            return
        for layer in range(self.prefetch_size):
            yield from self.prefetch(layer, blocking=True)
        yield from wait_stream(COMPUTE, self.copy_stream)

    def _requested(self, layer: int) -> list[int]:
        """Layers that the pre-hook of `layer` asks for: the next group, around the end."""
        size = self.prefetch_size
        if self.policy.residency == "strided":
            return self._next_streamed(layer)
        if layer % size:
            return []
        return [ahead % self.count for ahead in range(layer + size, layer + 2 * size)]

    def _next_streamed(self, layer: int) -> list[int]:
        """The next P streamed layers after `layer`, around the end."""
        later = [s for s in self.streamed if s > layer] + [s for s in self.streamed if s <= layer]
        return [s for s in later[: self.prefetch_size] if s != layer]

    def after_layer(self, layer: int) -> Iterator[Command]:
        if self.policy.version == "v0":
            yield from wait_stream(COMPUTE, self.copy_stream)
        yield from self.release(layer)


class LayerwiseProgram(PolicyProgram):
    """Every expert's block lists under a manager; the rest of the transformers stays on the device."""

    name = "sglang-layerwise"
    breaks_graph = True

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        policy = scenario.policy
        assert isinstance(policy, SGLangLayerwise)
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
