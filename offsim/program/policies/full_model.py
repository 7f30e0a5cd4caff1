"""SGLang's full-model offload (--dit-cpu-offload): a whole expert is on the device, the other on the host.

pageable (until mid 2026): at the start of every step `_manage_device_placement` moves the unused expert out with
module.to("cpu"), D2H into newly allocated pageable memory, then the used one in, H2D, tensor by tensor, blocking the
host; a no-op when nothing changes. pinned (later ComponentHostStore): host copies are kept, so swapping out only
rebinds, and swapping in is an asynchronous pinned copy.
"""

from collections.abc import Hashable, Iterator

from offsim.scenario.policy import FullModel
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, Allocate, Command, Copy, Free, Record, Wait
from .hooks import EXPERT_NAMES, PolicyProgram

COPY_STREAM = "copy"


class FullModelProgram(PolicyProgram):
    """Swap experts at the step that changes them."""

    name = "full-model"

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        policy = scenario.policy
        assert isinstance(policy, FullModel)
        self.pinned = policy.version == "pinned"
        self.on_device: int | None = None
        # The few tensors outside the blocks are not counted: their copies change nothing visible.
        self.tensors = sum(n * t for n, t in zip(self.sizes.count, self.sizes.tensors, strict=True))

    def state(self) -> Hashable:
        return self.on_device

    def weights(self, expert: int, index: int, block: int) -> str:
        return EXPERT_NAMES[expert]

    def other_weights(self, expert: int) -> tuple[str, ...]:
        return (EXPERT_NAMES[expert],)

    def load(self) -> Iterator[Command]:
        for name in EXPERT_NAMES[: self.sizes.experts]:
            yield Allocate(f"{name} on host", self.sizes.expert, "pinned" if self.pinned else "pageable")

    def begin_step(self, expert: int) -> Iterator[Command]:
        if self.on_device == expert:
            return
        if self.on_device is not None:
            yield from self._swap_out(EXPERT_NAMES[self.on_device])
        yield from self._swap_in(EXPERT_NAMES[expert])
        self.on_device = expert

    def _swap_out(self, name: str) -> Iterator[Command]:
        if not self.pinned:
            yield Allocate(f"{name} on host", self.sizes.expert, "pageable")
            yield Copy(COMPUTE, f"{name} out", "D2H", self.sizes.expert, "fresh", name, self.tensors)
        yield Free(name)

    def _swap_in(self, name: str) -> Iterator[Command]:
        bytes_ = self.sizes.expert
        yield Allocate(name, bytes_, COMPUTE)
        if not self.pinned:
            yield Copy(COMPUTE, f"{name} in", "H2D", bytes_, "pageable", name, self.tensors)
            yield Free(f"{name} on host")
            return
        yield Record(COMPUTE, "swap gate")
        yield Wait(COPY_STREAM, "swap gate")
        yield Copy(COPY_STREAM, f"{name} in", "H2D", bytes_, "pinned", name, self.tensors)
        yield Record(COPY_STREAM, f"{name} ready")
        yield Wait(COMPUTE, f"{name} ready")
