"""Forwards of the transformer with a policy's hooks in them: embeddings, block lists, final projection.

A policy's hooks stand around blocks, or around every module with weights; then activations that a stretch of kernels
holds besides the forward's own are allocated for that stretch. Left out: compute outside the blocks, but for one
elementwise kernel each, where its layers are not known or kernels are fused.
"""

from collections.abc import Hashable, Iterator

from offsim.scenario.model import BlockList
from offsim.scenario.operations import Operation
from offsim.scenario.scenario import Scenario

from .block import (
    Layout,
    Stretch,
    activation_bytes,
    block_commands,
    elementwise,
    graph_break,
    kept_bytes,
    largest_bytes,
    live_bytes,
    stretches,
)
from .commands import COMPUTE, Allocate, Collective, Command, Compute, Free
from .offloading.hooks import PolicyProgram
from .passages import Part, Passage, Template

TEMPORARIES = "temporaries"


class Forwards:
    """Writes the commands of forwards, each different one once: blocks of one list differ in names only."""

    def __init__(self, scenario: Scenario, policy: PolicyProgram, layout: Layout) -> None:
        self.scenario = scenario
        self.policy = policy
        self.layout = layout
        lists = scenario.model.blocks
        self._operations = [operations_of(scenario, blocks) for blocks in lists]
        self._outside = outside_of(scenario)
        self._kept = kept_bytes(self._outside[0], layout) if self._outside is not None else 0.0
        whole = [self._template(own, keep_names=True) for own in self._operations]
        self._stops = [tuple(policy.stops(index, template)) for index, template in enumerate(whole)]
        self._templates = [_cut(template, stops) for template, stops in zip(whole, self._stops, strict=True)]
        self._stretches: dict[tuple[Operation, ...], list[tuple[Stretch, Template]]] = {}
        self._names = [blocks.name for blocks in lists]
        breaks = policy.breaks_graph and scenario.workload.compiled
        self._breaks = [graph_break(layout, blocks.hidden, "") for blocks in lists] if breaks else []
        """What every block but the first begins with; empty if the graph goes through."""
        self._passes = (elementwise(layout.rows("image"), 2 * lists[0].hidden),)
        self._forwards: dict[Hashable, Passage] = {}

    def _template(self, operations: tuple[Operation, ...], *, keep_names: bool) -> Template:
        """What operations do, to be named later; without names of their own where a module's name says enough."""
        commands = _shared(block_commands(operations, self.layout, "", ()))
        return Template(tuple(c if keep_names or isinstance(c, Collective) else c._replace(name="") for c in commands))

    @property
    def activations(self) -> float:
        """Bytes of activations that are allocated for a whole forward."""
        size = largest_bytes if self.policy.splits_blocks else activation_bytes
        lists = zip(self._operations, self.scenario.model.blocks, strict=True)
        return max(size(own, self.layout, blocks.hidden) for own, blocks in lists) + self._kept

    def forward(self, expert: int) -> Passage:
        """The next forward of an expert; remembered if it leaves the policy's state as it found it."""
        before = (expert, self.policy.state())
        if before not in self._forwards:
            forward = self._write(expert)
            if before[1] != self.policy.state():
                return forward
            self._forwards[before] = forward
        return self._forwards[before]

    def _write(self, expert: int) -> Passage:
        """One forward of the transformer."""
        begin = (*self.policy.before_forward(expert), Allocate("activations", self.activations, COMPUTE))
        parts = between(begin, self._around(expert, 0, "embeddings"))
        for index, blocks in enumerate(self.scenario.model.blocks):
            for i in range(blocks.count):
                parts += self._block(expert, index, i)
        head = self._around(expert, 1, "head")
        end = (Free("activations"), *self.policy.after_forward(expert))
        return (*parts, *between((), head, end))

    def _around(self, expert: int, side: int, name: str) -> list[Part]:
        """What runs before (0) or after (1) the blocks."""
        if self._outside is None:
            return [Part((Compute(COMPUTE, name, self._passes, self.policy.other_weights(expert)),))]
        if self.policy.splits_blocks:
            return self._split(expert, "", self._outside[side])
        commands = block_commands(self._outside[side], self.layout, name, self.policy.other_weights(expert))
        return [Part(tuple(commands))]

    def _block(self, expert: int, index: int, i: int) -> list[Part]:
        """A block of list `index` with what the policy's hooks issue around it and where it stops within."""
        policy, name = self.policy, f"{self._names[index]}.{i}"
        before = [*policy.before_block(expert, index, i)]
        if self._breaks and (index or i):
            cut = self._breaks[index]
            before.append(Compute(cut.stream, name + cut.name, cut.kernels))
        if policy.splits_blocks:
            parts = self._split(expert, f"{name}.", self._operations[index])
            return between(tuple(before), parts, tuple(policy.after_block(expert, index, i)))
        reads, parts = (policy.weights(expert, index, i),), []
        *inner, last = self._templates[index]
        for template, stop in zip(inner, self._stops[index], strict=True):
            parts.append(Part(tuple(before), template, name, reads))
            before = [*policy.within_block(expert, index, i, stop)]
        return [*parts, Part(tuple(before), last, name, reads, tuple(policy.after_block(expert, index, i)))]

    def _split(self, expert: int, prefix: str, operations: tuple[Operation, ...]) -> list[Part]:
        """Stretches of operations with the hooks of each module around its own."""
        if operations not in self._stretches:
            found = [
                (stretch, self._template(stretch.operations, keep_names=False)) for stretch in stretches(operations)
            ]
            self._stretches[operations] = found
        return [self._stretch(expert, prefix, *pair) for pair in self._stretches[operations]]

    def _stretch(self, expert: int, prefix: str, stretch: Stretch, template: Template) -> Part:
        policy, module = self.policy, prefix + stretch.module if stretch.module else ""
        extra = live_bytes(stretch.operations, self.layout) + self._kept - self.activations
        before = [*policy.before_module(expert, module)] if module else []
        after = [*policy.after_module(expert, module)] if module else []
        if extra > 0:
            before.append(Allocate(TEMPORARIES, extra, COMPUTE))
            after.insert(0, Free(TEMPORARIES))
        reads = policy.module_weights(expert, module or prefix.rstrip("."))
        return Part(tuple(before), template, prefix + stretch.title, reads, tuple(after))


def _cut(template: Template, stops: tuple[int, ...]) -> list[Template]:
    """A template before, between and after these places."""
    ends = (*stops, len(template.commands))
    return [Template(template.commands[a:b]) for a, b in zip((0, *stops), ends, strict=True)]


def between(before: tuple[Command, ...], parts: list[Part], after: tuple[Command, ...] = ()) -> list[Part]:
    """Parts with commands before the first and after the last."""
    first = parts[0]._replace(before=before + parts[0].before)
    *most, last = [first, *parts[1:]]
    if last.template is None:
        return [*most, last._replace(before=last.before + after)]
    return [*most, last._replace(after=last.after + after)]


def operations_of(scenario: Scenario, blocks: BlockList) -> tuple[Operation, ...]:
    """The operations that a block runs, with the scenario's kernels."""
    eager = blocks.eager_operations() if scenario.workload.kernels == "eager" else None
    return blocks.operations() if eager is None else eager


def outside_of(scenario: Scenario) -> tuple[tuple[Operation, ...], tuple[Operation, ...]] | None:
    """The operations before and after the blocks, with eager kernels where they are known."""
    return scenario.model.outside_operations() if scenario.workload.kernels == "eager" else None


def _shared(commands: Iterator[Command]) -> Iterator[Compute | Collective]:
    """The commands of a block, which are kernels and collectives only."""
    for command in commands:
        assert isinstance(command, Compute | Collective)
        yield command
