"""Every policy with every option, mostly in ways that go together."""

from random import Random
from typing import Any, get_args

from offsim.program.pages import policy_types
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from tests.attack.case import chance
from tests.malformed.mutations import Table

from .values import settings


def policies(random: Random) -> Table:
    """A policy with none, some or most of its options set."""
    # Those with most options come twice.
    struct = random.choice((*get_args(policy_types()), SGLangLayerwise, ScheduledLayerwise))
    found = settings(random, struct, random.choice((0.0, 0.2, 0.6)))
    if chance(random, 0.8):
        _limit(random, struct, found)
        _reconcile(struct, found)
    return {"name": struct.__struct_config__.tag, **found}


def _limit(random: Random, struct: Any, found: Table) -> None:
    """Counts of blocks that small models have too."""
    if "prefetch" in found and struct is not FSDP:
        found["prefetch"] = random.choice((1, 1, 2) if struct is ScheduledLayerwise else (0, 1, 1, 2, 0.0, 0.3, 0.99))
    if "resident_layers" in found:
        found["resident_layers"] = random.choice((0, 1, 2, 0.0, 0.3, 0.99))


def _reconcile(struct: Any, found: Table) -> None:
    """Set what some options need."""
    if struct is SGLangLayerwise and found.keys() & {"residency", "resident_layers"}:
        found["version"] = "v3"
    if struct is SGLangLayerwise and found.get("version") == "v0":
        found.pop("prefetch", None)
    if struct is FullModel and "background_steps" in found:
        found["version"] = "pinned"
    if struct is DiffusersGroup:
        if found.get("record_stream") or found.get("low_cpu_mem_usage"):
            found["stream"] = True
        if found.get("stream") or found.get("level") == "leaf":
            found.pop("num_blocks_per_group", None)
