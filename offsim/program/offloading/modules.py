"""The modules of a transformer that have weights of their own, in the order in which they run.

Bytes are in the scenario's weight dtype, buffers (rotary tables) as they are. Known where the model's eager operations
are: see offsim.scenario.architectures.
"""

from collections.abc import Iterator
from typing import NamedTuple

from offsim.scenario.operations import Elementwise, Operation
from offsim.scenario.scenario import Scenario

from ..block import stretches
from .hooks import EXPERT_NAMES

KNOWN_BY_MODULE = "wan2.2-t2v-a14b"
"""A model of the catalogue whose modules are known one by one."""


class Module(NamedTuple):
    """Weights that move together."""

    buffer: str
    bytes: float
    tensors: int


def modules_of(scenario: Scenario, expert: int) -> list[Module]:
    """The transformer itself (its own parameters), then every module within, each before those within it."""
    model, root = scenario.model, EXPERT_NAMES[expert]
    outside = model.outside_operations()
    assert outside is not None
    before, after = outside
    found = [_own(scenario, root, (*before, *after)), *_within(scenario, f"{root}.", before)]
    for blocks in model.blocks:
        operations = blocks.eager_operations()
        assert operations is not None
        for i in range(blocks.count):
            block = f"{root}.{blocks.name}.{i}"
            found += [_own(scenario, block, operations), *_within(scenario, f"{block}.", operations)]
    return [*found, *_within(scenario, f"{root}.", after)]


def outside_module(scenario: Scenario, expert: int, *, buffers_twice: bool = False) -> Module:
    """Everything outside the blocks, in one; `buffers_twice`: moved as if there were a second copy of its buffers."""
    model, name = scenario.model, f"{EXPERT_NAMES[expert]} other"
    outside = model.outside_operations()
    if outside is None:
        return Module(name, model.other_parameters * scenario.weight_bytes_per_parameter, 1)
    operations = (*outside[0], *outside[1])
    again = [b for op in operations if isinstance(op, Elementwise) for b in op.buffers] if buffers_twice else []
    bytes_ = sum(_bytes(scenario, op) for op in operations) + sum(again)
    return Module(name, bytes_, sum(map(_tensors, operations)) + len(again))


def why_not_by_module(scenario: Scenario, what: str, instead: str) -> str:
    """Why modules cannot be moved one by one in this scenario, asked for as `what`; empty if they can."""
    if not scenario.model.knows_modules:
        known = f"of {KNOWN_BY_MODULE} and other Wan models with an [embeddings] table they are"
        return f"{what}: the modules of {scenario.model.name} are not known one by one; {known}; here {instead} works"
    if scenario.workload.kernels != "eager":
        return f"{what}: moves the modules that the library runs one by one; needs workload.kernels = 'eager'"
    return ""


def _own(scenario: Scenario, name: str, operations: tuple[Operation, ...]) -> Module:
    """What a module has besides the modules within it: its table."""
    tables = [op for op in operations if isinstance(op, Elementwise) and op.whole]
    return Module(name, sum(_bytes(scenario, op) for op in tables), sum(map(_tensors, tables)))


def _within(scenario: Scenario, prefix: str, operations: tuple[Operation, ...]) -> Iterator[Module]:
    for stretch in stretches(operations):
        if stretch.module:
            (operation,) = stretch.operations
            yield Module(prefix + stretch.module, _bytes(scenario, operation), _tensors(operation))


def _bytes(scenario: Scenario, operation: Operation) -> float:
    buffers = sum(operation.buffers) if isinstance(operation, Elementwise) else 0
    return operation.parameters * scenario.weight_bytes_per_parameter + buffers


def _tensors(operation: Operation) -> int:
    buffers = len(operation.buffers) if isinstance(operation, Elementwise) else 0
    return len(operation.tensors) + buffers
