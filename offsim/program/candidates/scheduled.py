"""What of the schedules that no system offers is worth searching: where copies stand, in which pieces and form.

Each option alone and those that add up (experiments/ideas has which do). Left out: more copy streams and their
priority, which change no time, and int4, whose rounding shows.
"""

from collections.abc import Iterator

from offsim.scenario.policy import Placing, Policy, ScheduledLayerwise
from offsim.scenario.scenario import Scenario

from .recipe import Ladder, Recipe

CHUNKS = 8
"""Of a block, where they are spread over the windows between exchanges."""
LATE: tuple[Placing, ...] = ("after-first-all-to-all", "after-attention", "after-all-to-alls")


def scheduled(scenario: Scenario) -> Iterator[Ladder]:
    """Each option, and residents beside copies at block start and beside spread ones."""
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
            ScheduledLayerwise(resident_layers=count, placement="spread", chunks=CHUNKS, prefetch=2) for count in counts
        )


def _between_exchanges() -> Iterator[ScheduledLayerwise]:
    """Copies that keep out of the way of collectives."""
    yield from (ScheduledLayerwise(placement=late) for late in LATE)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS, prefetch=2)
    yield ScheduledLayerwise(placement="gated", chunks=CHUNKS, prefetch=2)
    yield ScheduledLayerwise(placement="spread", chunks=CHUNKS, prefetch=2, transfer_dtype="int8")


def scheduled_flags(scenario: Scenario) -> Iterator[Recipe]:
    """vLLM-Omni shards blocks over ranks and gathers them, one block ahead; the rest nobody offers."""
    if scenario.policy == ScheduledLayerwise(sharded=True):
        yield Recipe(
            "vLLM-Omni (beside its flags for the ranks)", "--enable-distributed-layerwise-offload --dlo-use-allgather"
        )


def rounding(policy: Policy) -> str:
    """How it changes what the model computes."""
    assert isinstance(policy, ScheduledLayerwise)
    return "" if policy.transfer_dtype == "stored" else f"rounds weights to {policy.transfer_dtype}"
