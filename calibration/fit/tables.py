"""Kernel tables at full clock: rates by size, from medians of short bursts.

Held-out sizes are predicted by interpolation and give the table's error.
"""

from collections.abc import Callable

import numpy as np

from calibration.probes.kernels_time import packed_bytes
from calibration.samples.sample_file import ProbeSample
from offsim.program.roofline import KEY_TILE
from offsim.scenario.faults import ScenarioError
from offsim.scenario.quantity import Curve

RatePoint = tuple[float, float]
LONGEST_AT_FULL_CLOCK = 0.03
"""Seconds: power limits a longer kernel while it is measured; the rate of those before it holds for it."""


def curve(points: list[RatePoint], source: str) -> Curve:
    """Sizes and rates as a node holds them; raises ScenarioError where there are none."""
    if not points:
        short = f"under {1e3 * LONGEST_AT_FULL_CLOCK:.0f} ms"
        raise ScenarioError(f"too little measured for a profile: no samples of kernels {short} ({source})")
    return Curve(tuple(sorted(points)), "measured", source)


def rate_points(
    samples: list[ProbeSample],
    size: Callable[[ProbeSample], float],
    work: Callable[[ProbeSample], float],
    *,
    held_out: bool = False,
) -> list[RatePoint]:
    """Sizes and work per second by configuration, from medians of short kernels."""
    chosen = [
        s for s in samples if s.held_out == held_out and float(np.median(s.readings["seconds"])) < LONGEST_AT_FULL_CLOCK
    ]
    return sorted((size(s), work(s) / float(np.median(s.readings["seconds"]))) for s in chosen)


def interpolation_error(fitted: Curve, kept: list[RatePoint]) -> list[float]:
    """Signed errors of predicted times at sizes that the curve does not hold."""
    return [rate / fitted.at(size) - 1 for size, rate in kept]


def product_key(sample: ProbeSample) -> str:
    return f"{sample.config['inputs']}x{sample.config['outputs']}"


def attention_key(sample: ProbeSample) -> str:
    """The shape as heads x head_dim, with the keys behind if they are others', or `ragged` if not of whole tiles."""
    c = sample.config
    shape = f"{c['heads']}x{c['head_dim']}"
    if c["queries"] != c["keys"]:
        return f"{shape}x{c['keys']}"
    return shape if int(c["keys"]) % KEY_TILE == 0 else f"{shape}-ragged"


def product_work(sample: ProbeSample) -> float:
    """FLOPs of a product: 2 rows inputs outputs."""
    c = sample.config
    return 2.0 * float(c["rows"]) * float(c["inputs"]) * float(c["outputs"])


def attention_work(sample: ProbeSample) -> float:
    """FLOPs of an attention: 4 queries keys width."""
    c = sample.config
    return 4.0 * float(c["queries"]) * float(c["keys"]) * float(c["heads"]) * float(c["head_dim"])


def relayout_bytes(sample: ProbeSample) -> float:
    """Bytes that a relayout moves: read once, written once, 2 bytes each."""
    c = sample.config
    return 4.0 * float(c["rows"]) * float(c["parts"]) * float(c["columns"])


def unpack_bits(sample: ProbeSample) -> float:
    """Bits that a packed value has."""
    return float(sample.config["bits"])


def unpack_bytes(sample: ProbeSample) -> float:
    """Bytes that unpacking moves: read packed, written as bf16."""
    return packed_bytes(sample.config) + float(sample.config["bytes"])


def by_key(samples: list[ProbeSample], key: Callable[[ProbeSample], str]) -> dict[str, list[ProbeSample]]:
    """Samples by the shape of their kernel, which `key` names."""
    found: dict[str, list[ProbeSample]] = {}
    for sample in samples:
        found.setdefault(key(sample), []).append(sample)
    return found


def merged_points(points: list[RatePoint]) -> list[RatePoint]:
    """The points with one per size: the mean of those that share it."""
    sizes = sorted({size for size, _ in points})
    return [(size, float(np.mean([rate for s, rate in points if s == size]))) for size in sizes]
