"""SGLang's full-model offload (--dit-cpu-offload): a whole expert is on the device, the other on the host.

pageable (until mid 2026): at the start of every step `_manage_device_placement` moves the unused expert out with
module.to("cpu"), D2H into newly allocated pageable memory, then the used one in, H2D, tensor by tensor, blocking the
host; a no-op when nothing changes. pinned (later ComponentHostStore): host copies are kept, so swapping out only
rebinds, and swapping in is an asynchronous pinned copy. With `background_steps`, which SGLang does not have, that copy
is made in equal pieces, one in each of the last steps before the switch.
"""

from collections.abc import Hashable, Iterator
from typing import Annotated, Literal

from msgspec import Meta

from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

from ..commands import COMPUTE, WHOLE, Allocate, Command, Copy, Free, Piece, Record, Wait
from ..offloading.hooks import EXPERT_NAMES, PolicyProgram, moved_in, moved_out, wait_stream
from ..offloading.launch import sglang_line
from ..offloading.page import Ladder, LaunchLine, Page

COPY_STREAM = "copy"
BACKGROUND_STEPS = (1, 2, 4)
"""Over how many steps it is worth searching."""


class FullModel(Policy, frozen=True, tag="full-model"):
    """SGLang's --dit-cpu-offload: whole experts move at the switch."""

    version: Literal["pageable", "pinned"] = "pageable"
    """pageable: D2H into fresh pageable memory, then H2D, blocking. pinned: later, H2D only, asynchronous."""
    background_steps: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Over so many steps before the switch the next expert comes in pieces, while both are on the device: no system
    offers it (pinned only)."""


class FullModelPage(Page[FullModel]):
    """Experts are swapped whole."""

    parameters = FullModel
    listed = 30
    replayed_as = "streams"

    def program(self, scenario: Scenario, policy: FullModel) -> PolicyProgram:
        return FullModelProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: FullModel) -> str:
        if policy.background_steps and policy.version != "pinned":
            steps = policy.background_steps
            return f"policy.background_steps={steps}: needs version = 'pinned', got {policy.version!r}"
        return ""

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """The swap of its first versions, the later one, which keeps pinned copies, and one in the background."""
        yield (FullModel(version="pageable"),)
        yield (FullModel(version="pinned"),)
        if scenario.model.experts > 1:
            yield from ((FullModel(version="pinned", background_steps=steps),) for steps in BACKGROUND_STEPS)

    def launch_lines(self, scenario: Scenario, policy: FullModel) -> Iterator[LaunchLine]:
        if not policy.background_steps:
            since = "until mid 2026" if policy.version == "pageable" else "since mid 2026"
            yield from sglang_line(scenario, since, "--dit-cpu-offload true --dit-layerwise-offload false")


class FullModelProgram(PolicyProgram):
    """Swap experts at the step that changes them."""

    def __init__(self, scenario: Scenario, policy: FullModel) -> None:
        super().__init__(scenario)
        self.pinned = policy.version == "pinned"
        self.background_steps = policy.background_steps
        self.on_device: int | None = None
        self.coming: tuple[int, int] | None = None
        """Pieces of the next expert that are on the device, of how many."""
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
