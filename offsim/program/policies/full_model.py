"""SGLang's full-model offload (--dit-cpu-offload): a whole expert is on the device, the other on the host.

pageable (until mid 2026): at the start of every step `_manage_device_placement` moves the unused expert out with
module.to("cpu"), D2H into newly allocated pageable memory, then the used one in, H2D, tensor by tensor, blocking the
host; a no-op when nothing changes. pinned (later ComponentHostStore): host copies are kept, so swapping out only
rebinds, and swapping in is an asynchronous pinned copy. With `background_steps`, which SGLang does not have, that copy
is made in equal pieces, one in each of the last steps before the switch.
"""

from collections.abc import Hashable, Iterator

from offsim.scenario.policy import FullModel
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, WHOLE, Allocate, Command, Copy, Free, Piece, Record, Wait
from .hooks import EXPERT_NAMES, PolicyProgram, moved_in, moved_out, wait_stream

COPY_STREAM = "copy"


class FullModelProgram(PolicyProgram):
    """Swap experts at the step that changes them."""

    name = "full-model"

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        policy = scenario.policy
        assert isinstance(policy, FullModel)
        self.pinned = policy.version == "pinned"
        self.background_steps = policy.background_steps
        self.on_device: int | None = None
        self.coming: tuple[int, int] | None = None
        """Of the next expert: pieces on the device, of how many."""
        # The few tensors outside the blocks are not counted: their copies change nothing visible.
        self.tensors = sum(n * t for n, t in zip(self.sizes.count, self.sizes.tensors, strict=True))

    def state(self) -> Hashable:
        return self.on_device, self.coming, self._begins_to_come()

    def _begins_to_come(self) -> int:
        """In how many pieces the next expert begins to come in this step; 0 if it does not."""
        now = self.upcoming[0] if self.upcoming else None
        left = next((i for i, expert in enumerate(self.upcoming) if expert != now), 0)
        steps = left // self.scenario.workload.forwards(self.scenario.model)
        return steps if self.coming is None and 0 < steps <= self.background_steps else 0

    def weights(self, expert: int, index: int, block: int) -> str:
        return EXPERT_NAMES[expert]

    def other_weights(self, expert: int) -> tuple[str, ...]:
        return (EXPERT_NAMES[expert],)

    def load(self) -> Iterator[Command]:
        for name in EXPERT_NAMES[: self.sizes.experts]:
            yield Allocate(f"{name} on host", self.sizes.expert, "pinned" if self.pinned else "pageable")

    def begin_step(self, expert: int) -> Iterator[Command]:
        if self.on_device != expert:
            if self.on_device is not None:
                yield from self._swap_out(EXPERT_NAMES[self.on_device])
            if self.coming is None:
                yield from self._swap_in(EXPERT_NAMES[expert])
            else:
                yield Wait(COMPUTE, f"{EXPERT_NAMES[expert]} ready")
                self.coming = None
            self.on_device = expert
        yield from self._in_background(EXPERT_NAMES[1 - expert])

    def _in_background(self, name: str) -> Iterator[Command]:
        """One more piece of the next expert, if it is time."""
        pieces = self._begins_to_come()
        if pieces:
            yield Allocate(name, self.sizes.expert, COPY_STREAM)
            self.coming = (0, pieces)
        if self.coming is not None:
            done, count = self.coming
            yield from self._copy(name, (done, count))
            self.coming = (done + 1, count)

    def _copy(self, name: str, piece: Piece) -> Iterator[Command]:
        """A piece of an expert on the copy stream, after all that the compute stream has been given."""
        yield from wait_stream(COPY_STREAM, COMPUTE)
        bytes_, calls = self.sizes.expert / piece[1], max(1, self.tensors // piece[1])
        yield Copy(COPY_STREAM, f"{name} in", "H2D", bytes_, "pinned", name, calls, piece)
        yield Record(COPY_STREAM, f"{name} ready")

    def _swap_out(self, name: str) -> Iterator[Command]:
        if self.pinned:
            yield Free(name)
        else:
            yield from moved_out(name, self.sizes.expert, self.tensors)

    def _swap_in(self, name: str) -> Iterator[Command]:
        bytes_ = self.sizes.expert
        if not self.pinned:
            yield from moved_in(name, bytes_, self.tensors)
            return
        yield Allocate(name, bytes_, COMPUTE)
        yield from self._copy(name, WHOLE)
        yield Wait(COMPUTE, f"{name} ready")
