"""diffusers' group offloading (enable_group_offload): groups of blocks, or of leaf modules, come and go by hooks.

With a stream, the first forward traces the order in which groups run, each bringing itself in and blocking; from then
on a group's pre-hook brings in the next one. It waits on the host for the copy stream, so copies never queue up, and
nothing waits for the compute stream: its memory is free, since a group's hook blocks the host until kernels have ended
(or, with record_stream, lets the allocator wait). The chain is not circular: the first group comes in when the
transformer's own hook runs. Host copies are pinned for good, or (low_cpu_mem_usage) pinned anew each time.
Without a stream, every group goes in and out by module.to(), pageable and blocking. At block level, what lies outside
the blocks is a group that does so even with a stream; its buffers move twice, since module.to() puts new ones into the
module while the group keeps the old ones.
Left out: offloading to disk; the copies and waits of a first forward are tensor by tensor, here group by group.
Source: diffusers 0.42.1 hooks/group_offloading.py.
"""

from collections.abc import Iterator

from offsim.scenario.scenario import Scenario

from ...offloading.hooks import PolicyProgram
from ...offloading.launch import diffusers_line
from ...offloading.modules import why_not_by_module
from ...offloading.page import Ladder, LaunchLine, Page
from .parameters import DiffusersGroup
from .program import DiffusersGroupProgram


class DiffusersGroupPage(Page[DiffusersGroup]):
    """Groups of blocks or of leaf modules; kernels are the scenario's (the library runs workload.kernels = "eager")."""

    parameters = DiffusersGroup
    listed = 60
    replayed_as = "library"

    def program(self, scenario: Scenario, policy: DiffusersGroup) -> PolicyProgram:
        return DiffusersGroupProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: DiffusersGroup) -> str:
        if policy.level == "block":
            return ""
        return why_not_by_module(scenario, "policy.level='leaf'", "policy.level = 'block'")

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """Policies of both levels, with a stream and what it can be told, or without in groups of blocks."""
        if scenario.workload.gpus > 1:
            return
        most = max(blocks.count for blocks in scenario.model.blocks)
        yield tuple(DiffusersGroup(num_blocks_per_group=count) for count in range(1, most + 1))
        yield (DiffusersGroup(stream=True),)
        yield (DiffusersGroup(stream=True, record_stream=True),)
        yield (DiffusersGroup(stream=True, low_cpu_mem_usage=True),)
        yield (DiffusersGroup(level="leaf"),)
        yield (DiffusersGroup(level="leaf", stream=True),)
        yield (DiffusersGroup(level="leaf", stream=True, record_stream=True),)

    def launch_lines(self, scenario: Scenario, policy: DiffusersGroup) -> Iterator[LaunchLine]:
        words = ['onload_device=torch.device("cuda")', f'offload_type="{policy.level}_level"']
        if policy.level == "block":
            words.append(f"num_blocks_per_group={policy.num_blocks_per_group}")
        words += [f"{option}=True" for option, on in _options(policy) if on]
        names = ("transformer", "transformer_2")[: scenario.model.experts]
        calls = (f"pipe.{name}.enable_group_offload({', '.join(words)})" for name in names)
        yield from diffusers_line(scenario, "; ".join(calls))


def _options(policy: DiffusersGroup) -> Iterator[tuple[str, bool]]:
    yield "use_stream", policy.stream
    yield "record_stream", policy.record_stream
    yield "low_cpu_mem_usage", policy.low_cpu_mem_usage
