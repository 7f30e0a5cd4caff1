"""Layerwise streaming whose copies come where, how and in which form the scenario says; no system offers all of it.

Every block asks for the next P that are not on the device, around the end of the forward, as SGLang's v2 does; here
all block lists of an expert are one chain. Blocks that stay are brought like all others when they are first used, so a
switch of experts costs no more than a streamed step. Where in a block the request is issued is `placement`: at its
start, at a place within it, or chunk by chunk in the windows between its collectives (spread). Gated, each collective
also waits until the chunks before it are there and the next chunks wait for it: none runs beside a collective. That is
what SGLang PR 34805 proposes, with a fixed allotment of chunks where its producer thread takes them as they fit.
"""

from collections.abc import Iterator

from offsim.scenario.model import DTYPE_BYTES
from offsim.scenario.scenario import Scenario

from ...offloading.hooks import PolicyProgram
from ...offloading.page import Ladder, LaunchLine, Page
from .parameters import Placing, ScheduledLayerwise
from .program import ScheduledLayerwiseProgram

CHUNKS = 8
"""Pieces of a block, where they are spread over the windows between exchanges."""
LATE: tuple[Placing, ...] = ("after-first-all-to-all", "after-attention", "after-all-to-alls")


class ScheduledLayerwisePage(Page[ScheduledLayerwise]):
    """When, in which pieces and in which form blocks come is free."""

    parameters = ScheduledLayerwise
    listed = 50
    replayed_as = "streams"

    def program(self, scenario: Scenario, policy: ScheduledLayerwise) -> PolicyProgram:
        return ScheduledLayerwiseProgram(scenario, policy)

    def refusal(self, scenario: Scenario, policy: ScheduledLayerwise) -> str:
        blocks = scenario.model.block_count
        for key, count in (("prefetch", policy.prefetch), ("resident_layers", policy.resident_layers)):
            if count > blocks:
                return f"policy.{key}={count}: {scenario.model.name} has {blocks} blocks"
        stored = scenario.workload.weight_dtype
        if policy.transfer_dtype != "stored" and DTYPE_BYTES[policy.transfer_dtype] >= DTYPE_BYTES[stored]:
            return f"policy.transfer_dtype={policy.transfer_dtype!r}: must be smaller than weight_dtype = {stored!r}"
        if policy.sharded and scenario.workload.gpus == 1:
            return "policy.sharded=true: needs more than one GPU"
        return ""

    def candidates(self, scenario: Scenario) -> Iterator[Ladder]:
        """Each option, those that add up (experiments/ideas has which do), and residents beside both placements.

        Left out: more copy streams and their priority, which change no time, and int4, whose rounding shows.
        """
        yield (ScheduledLayerwise(transfer_dtype="int8"),)
        if scenario.model.experts > 1:
            yield (ScheduledLayerwise(across_switch="prefetched"),)
            yield (ScheduledLayerwise(across_switch="fetched"),)
        if scenario.ulysses > 1:
            yield from ((policy,) for policy in _between_exchanges())
        if scenario.workload.gpus > 1:
            yield (ScheduledLayerwise(sharded=True),)
            yield (ScheduledLayerwise(sharded=True, prefetch=2),)
            yield (ScheduledLayerwise(sharded=True, transfer_dtype="int8"),)
        counts = range(1, scenario.model.block_count)
        yield tuple(ScheduledLayerwise(resident_layers=count) for count in counts)
        if scenario.ulysses > 1:
            yield tuple(
                ScheduledLayerwise(resident_layers=count, placement="spread", chunks=CHUNKS, prefetch=2)
                for count in counts
            )

    def launch_lines(self, scenario: Scenario, policy: ScheduledLayerwise) -> Iterator[LaunchLine]:
        """How vLLM-Omni shards blocks over ranks and gathers them, one block ahead; nobody offers the rest."""
        if policy == ScheduledLayerwise(sharded=True):
            yield LaunchLine(
                "vLLM-Omni (beside its flags for the ranks)",
                "--enable-distributed-layerwise-offload --dlo-use-allgather",
            )

    def rounding(self, policy: ScheduledLayerwise) -> str:
        return "" if policy.transfer_dtype == "stored" else f"rounds weights to {policy.transfer_dtype}"

    def blocks_ahead(self, scenario: Scenario, policy: ScheduledLayerwise) -> int:
        return policy.prefetch


def _between_exchanges() -> Iterator[ScheduledLayerwise]:
    """Copies that keep out of the way of collectives."""
    yield from (ScheduledLayerwise(placement=late) for late in LATE)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS, prefetch=2)
    yield ScheduledLayerwise(placement="gated", chunks=CHUNKS, prefetch=2)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS, prefetch=2, transfer_dtype="int8")
