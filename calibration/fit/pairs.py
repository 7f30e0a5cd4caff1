"""Two things at once: interference factors, and how collectives share a link with copies.

A factor is exp(median log(beside / alone)) - 1, which a single slow reading does not move; 0 where its interval
contains 0. The weight of a collective against a copy engine is the ratio of their rates while both want more of a
saturated link than they get.
"""

from math import exp, log

import numpy as np

from calibration.samples.sample_file import ProbeSample

from .estimate import Blocks, Estimate, bootstrap, median_of_medians

UNEXPLAINED = 0.1
BELOW = 0.97
"""Share of the host's read rate, which is known to 2 or 3 %: pairs above it may be held up there."""
SHARED = 0.05
"""A collective that copies slow by more than this shares a link with them; less is interference."""


def slowdown(samples: list[ProbeSample], latency: float = 0.0) -> Estimate:
    """How much longer something takes beside than alone, relative, without a fixed part [s] that nothing slows.

    A collective that waits for kernel boundaries is active for a part of the time only: alone / beside =
    share / (1 + slowdown) + 1 - share, with the share from the collective's own slowdown.
    """
    blocks = [
        [
            log(_full_share((b - latency) / (a - latency), s))
            for a, b in zip(s.readings["alone"], s.readings["beside"], strict=False)
        ]
        for s in samples
    ]
    return _slowdown([block for block in blocks if block])


def mutual(samples: list[ProbeSample], of: str, latency: float) -> Estimate:
    """How much longer one of two collectives takes while the other one runs all the time; `of` names its readings."""
    return _slowdown([_against_median(sample, of, latency) for sample in samples])


def _against_median(sample: ProbeSample, of: str, latency: float) -> list[float]:
    """Logarithms of the ratios to the median alone."""
    alone = float(np.median(sample.readings[f"{of}alone"])) - latency
    return [log((beside - latency) / alone) for beside in sample.readings[f"{of}beside"]]


def _full_share(ratio: float, sample: ProbeSample) -> float:
    """What the ratio would be with the aggressor active all the time."""
    alone, beside = (sample.readings.get(f"collective_{name}", []) for name in ("alone", "beside"))
    if not alone or not beside:
        return ratio
    share = min(1.0, float(np.median(alone)) / float(np.median(beside)))
    rest = 1 / ratio - (1 - share)
    return share / rest if rest > 0 else ratio


def _slowdown(blocks: Blocks) -> Estimate:
    def mean(drawn: Blocks) -> float:
        return exp(float(np.median([np.median(b) for b in drawn]))) - 1

    value, (low, high) = mean(blocks), bootstrap(blocks, mean)
    n = sum(map(len, blocks))
    if low <= 0 <= high or value < 0:
        return Estimate(0.0, (0.0, max(high, 0.0)), n, None, f"not told from 0, at most {100 * max(high, 0):.1f} %")
    return Estimate(value, (max(0.0, low), high), n)


def weight(samples: list[ProbeSample], latency: float, kind: str) -> Estimate | None:
    """The collective's share of a link against a copy's, from back-to-back pairs with H2D copies on all ranks."""
    chosen = [s for s in samples if _saturating(s, kind, "H2D") and not s.held_out]
    blocks = [ratios(s, latency) for s in chosen]
    if not blocks:
        return None

    value, (low, high) = median_of_medians(blocks), bootstrap(blocks, median_of_medians)
    upward = [float(np.median(ratios(s, latency))) for s in samples if _saturating(s, kind, "D2H")]
    note = f"beside D2H {np.median(upward):.2f}" if upward else ""
    apart = [float(np.median(block)) / value - 1 for block in blocks]
    if max(map(abs, apart)) > UNEXPLAINED:
        note = f"one weight does not explain all sizes: {100 * max(apart, key=abs):+.0f} %; {note}".rstrip("; ")
    kept = [s for s in samples if s.held_out and s.config["kind"] == kind and s.config["every"] == 0]
    errors = [abs(value / float(np.median(ratios(s, latency))) - 1) for s in kept if s.readings["beside"]]
    error = float(np.median(errors)) if errors else None
    return Estimate(value, (min(low, value), max(high, value)), sum(map(len, blocks)), error, note)


def link_cost(samples: list[ProbeSample], latency: float, kind: str, link: float, host_read: float) -> Estimate | None:
    """What a byte of the collective takes of the GPU's link, from pairs with copies: (link - copies) / collective.

    Only pairs that leave host memory some of its rate tell: what each rank reads there stays below `host_read`, its
    part of what all read at once. None if all reach it, or if the link is full with the payload alone.
    """
    chosen = [s for s in samples if _saturating(s, kind, "H2D") and not s.held_out]
    blocks = [_costs(s, latency, link) for s in chosen if _read_by_each(s, latency) < BELOW * host_read]
    if not blocks:
        return None

    value, (low, high) = median_of_medians(blocks), bootstrap(blocks, median_of_medians)
    return Estimate(value, (low, high), sum(map(len, blocks))) if low > 1 else None


def _costs(sample: ProbeSample, latency: float, link: float) -> list[float]:
    rates = zip(ratios(sample, latency), sample.readings["copy_rate"], strict=True)
    return [(link - copies) / (ratio * copies) for ratio, copies in rates]


def _read_by_each(sample: ProbeSample, latency: float) -> float:
    """Bytes a second that copies and collective of one rank read of host memory."""
    rates = zip(ratios(sample, latency), sample.readings["copy_rate"], strict=True)
    return float(np.median([(1 + ratio) * copies for ratio, copies in rates]))


def _saturating(sample: ProbeSample, kind: str, direction: str) -> bool:
    c = sample.config
    if c["kind"] != kind or c["every"] != 0 or c["direction"] != direction or not sample.readings["beside"]:
        return False
    slowed = float(np.median(sample.readings["beside"])) / float(np.median(sample.readings["alone"])) - 1
    return slowed > SHARED and c["only_rank"] == -1


def ratios(sample: ProbeSample, latency: float) -> list[float]:
    """The collective's rate over the copies' rate, per reading."""
    bytes_ = float(sample.config["bytes"])
    pairs = zip(sample.readings["beside"], sample.readings["copy_rate"], strict=True)
    return [bytes_ / (t - latency) / rate for t, rate in pairs]
