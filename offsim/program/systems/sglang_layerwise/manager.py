"""SGLang's LayerwiseOffloadManager: which of one ModuleList's layers are on the device, and how they come and go.

Weights are read-only: no D2H ever; releasing rebinds the parameters, so the memory returns to its pool in host order.
Safety comes from the copy stream waiting for the compute stream before every copy.
"""

from collections.abc import Iterator

from ...commands import COMPUTE, Allocate, Command, Copy, Free, HostMemory, Record, Synchronize, Wait
from ...offloading.hooks import EXPERT_NAMES, Weights, wait_stream
from ...offloading.layers import prefetch_count, resident_blocks
from .parameters import SGLangLayerwise


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
        """Allocations of the host copies, one per layer."""
        memory = "pinned" if self.policy.pinned else "pageable"
        for layer in range(self.count):
            yield Allocate(f"{self.buffer(layer)} on host", self.sizes.block[self.index], memory)

    def prefetch(self, layer: int, *, blocking: bool = False) -> Iterator[Command]:
        """Commands of prefetch_layer, once: the copy stream waits for the compute stream's tail, copies, records."""
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
        """Commands of release_layer: back to the pool at once, in host order."""
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
        """Commands of prepare_for_next_req(non_blocking=False): layer 0 (V0) or the first P layers come first."""
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
