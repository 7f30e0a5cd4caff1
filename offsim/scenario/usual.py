"""Usual values of hardware, which stand where nothing is known of a part: one data file, each with its source."""

from functools import cache

import msgspec
from msgspec import Struct

from . import catalogue
from .decode import normalise
from .dimensions import (
    ByteQuantity,
    DuplexQuantity,
    ExponentQuantity,
    KneeQuantity,
    LinkCostQuantity,
    PowerQuantity,
    RateCurve,
    RateQuantity,
    SlowdownQuantity,
    TimeQuantity,
    WeightQuantity,
)
from .documents import read_toml


class UsualGPU(Struct, frozen=True, forbid_unknown_fields=True):
    """What any GPU is taken to have."""

    unpack: RateCurve
    """How fast packed weights become bf16: 703 MB of them are read as 351 in 0.93 ms (8 bits)."""
    workspace: ByteQuantity
    context: ByteQuantity


class UsualClock(Struct, frozen=True, forbid_unknown_fields=True):
    """What a chip's clock and power limit are taken to do."""

    lowest: KneeQuantity
    """The clock below which no load brings it, as a share of the highest."""
    burst_of_limit: LinkCostQuantity
    """What whole blocks draw for a moment: 1.061 on h100-x1-c, 1.041 on h100-x2-e; one class up to 1.12."""
    averaging: TimeQuantity
    idle: PowerQuantity
    """An H200 right after a load drew 120 W."""
    collective: PowerQuantity
    """Above idle, over NVLink: 218 and 238 W (h100-x2-d, h100-x2-e)."""
    copy: PowerQuantity
    power_exponent: ExponentQuantity
    gemm_knee: KneeQuantity
    attention_knee: KneeQuantity
    relayout_of_gemm_knee: LinkCostQuantity
    relayout_of_byte_energy: LinkCostQuantity


class UsualHost(Struct, frozen=True, forbid_unknown_fields=True):
    """What any host is taken to do."""

    pageable_h2d: RateQuantity
    pageable_d2h: RateQuantity
    fresh_d2h: RateQuantity
    command: TimeQuantity
    """Host time of a command that was not timed."""


class UsualBeside(Struct, frozen=True, forbid_unknown_fields=True):
    """How much longer a kind of collective takes beside the other kind."""

    all_to_all: SlowdownQuantity
    all_gather: SlowdownQuantity


class UsualWiring(Struct, frozen=True, forbid_unknown_fields=True):
    """What links and collectives are taken to do."""

    duplex: DuplexQuantity
    nvlink: RateQuantity
    weight: WeightQuantity
    beside_nvlink: UsualBeside
    beside_host_memory: UsualBeside


class UsualValues(Struct, frozen=True, forbid_unknown_fields=True):
    """All usual values, by the part that they stand for."""

    gpu: UsualGPU
    clock: UsualClock
    host: UsualHost
    wiring: UsualWiring


def lowest_clock() -> float:
    """The share of its highest clock below which no load brings a chip."""
    return usual().clock.lowest.value


@cache
def usual() -> UsualValues:
    """The usual values, read once."""
    path = catalogue.ROOT / "usual.toml"
    document = read_toml(path)
    del document["schema"]
    return msgspec.convert(normalise(document, UsualValues, path), UsualValues)
