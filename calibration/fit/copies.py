"""Copies: rate and fixed part by size, what further calls cost, the duplex limit, pageable rates, host limits.

A pinned copy takes latency + bytes / rate: fitted to medians by size with relative residuals. The duplex limit is
x_down / h2d + x_up / d2h of both directions at once.
"""

import numpy as np
from scipy.optimize import least_squares

from calibration.samples.sample_file import ProbeSample

from .estimate import Blocks, Estimate, bootstrap, estimated

LARGE_RESIDUAL = 0.03
BANDWIDTH_BOUND_BYTES = 32e6
"""Bytes from which a copy's rate, not its fixed part, decides."""


def medians(samples: list[ProbeSample], reading: str = "seconds") -> tuple[np.ndarray, np.ndarray]:
    """Sizes [bytes] and median seconds of copies, by configuration."""
    pairs = sorted((float(s.config["bytes"]), float(np.median(s.readings[reading]))) for s in samples)
    sizes, times = zip(*pairs, strict=True)
    return np.asarray(sizes), np.asarray(times)


def line(sizes: np.ndarray, times: np.ndarray) -> tuple[float, float]:
    """Latency [s] and rate [bytes/s] of the line latency + bytes / rate, by least relative squares."""

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.asarray(np.log((np.exp(logs[0]) + sizes / np.exp(logs[1])) / times))

    start = np.log([times.min(), sizes.max() / times.max()])
    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.01)
    return float(np.exp(found.x[0])), float(np.exp(found.x[1]))


def link(samples: list[ProbeSample]) -> tuple[Estimate, Estimate]:
    """Rate [bytes/s] and latency [s] of pinned copies of one direction."""
    fitted = [s for s in samples if not s.held_out]
    latency, rate = line(*medians(fitted))
    blocks = [s.readings["seconds"] for s in fitted]
    sizes = [float(s.config["bytes"]) for s in fitted]
    error = held_out_error(samples, latency, rate)
    spread = bootstrap(
        [[size / t for t in block] for size, block in zip(sizes, blocks, strict=True) if size >= BANDWIDTH_BOUND_BYTES],
        lambda drawn: float(np.median([np.median(b) for b in drawn])),
    )
    n = sum(map(len, blocks))
    interval = (min(spread[0], rate), max(spread[1], rate))
    short = [np.asarray(b) - size / rate for size, b in zip(sizes, blocks, strict=True) if size < 1.1e6]
    small = estimated([list(block) for block in short]) if short else Estimate(latency)
    low, high = small.interval or (latency, latency)
    fixed = Estimate(latency, (min(low, latency), max(high, latency)), small.n, error)
    return Estimate(rate, interval, n, error, unexplained(fitted, latency, rate)), fixed


def unexplained(samples: list[ProbeSample], latency: float, rate: float) -> str:
    """What a line over size leaves over beyond noise, in words; empty if nothing is left."""
    left = []
    for sample in samples:
        size, times = float(sample.config["bytes"]), np.asarray(sample.readings["seconds"])
        residual = (latency + size / rate) / float(np.median(times)) - 1
        noise = float(np.median(np.abs(times / np.median(times) - 1)))
        if abs(residual) > max(LARGE_RESIDUAL, 3 * noise):
            left.append((abs(residual), f"{size / 1e6:.0f} MB {100 * residual:+.1f} %"))
    return f"not explained by latency + bytes / rate: {max(left)[1]}" if left else ""


def held_out_error(samples: list[ProbeSample], latency: float, rate: float) -> float | None:
    """The line's median error on sizes that it was not fitted to; None where none were kept out."""
    kept = [s for s in samples if s.held_out]
    if not kept:
        return None
    sizes, times = medians(kept)
    return float(np.median(np.abs((latency + sizes / rate) / times - 1)))


def further_call(samples: list[ProbeSample]) -> Estimate | None:
    """Seconds that each further call of one transfer adds."""
    once = [s for s in samples if s.config["calls"] == 1]
    often = [s for s in samples if int(s.config["calls"]) > 1]
    if not once or not often:
        return None
    whole = float(np.median(once[0].readings["seconds"]))
    blocks = [[(t - whole) / (int(s.config["calls"]) - 1) for t in s.readings["seconds"]] for s in often]
    return estimated(blocks)


def duplex(samples: list[ProbeSample], h2d: float, d2h: float, latency: float = 0.0) -> Estimate | None:
    """gamma of both directions at once: the sum of what each reaches as a share of its rate alone."""
    own = {"H2D": h2d, "D2H": d2h}
    other = {"H2D": d2h, "D2H": h2d}

    def shares(sample: ProbeSample) -> list[float]:
        direction, bytes_ = str(sample.config["foreground"]), float(sample.config["bytes"])
        pairs = zip(sample.readings["seconds"], sample.readings["background_rate"], strict=True)
        flowing = [(bytes_ / (t - latency), bytes_ / (bytes_ / rate - latency)) for t, rate in pairs]
        return [mine / own[direction] + theirs / other[direction] for mine, theirs in flowing]

    found = {s.held_out: [shares(t) for t in samples if t.held_out == s.held_out] for s in samples}
    blocks = [block for block in found.get(False, []) if block]
    if not blocks:
        return None
    fitted = estimated(blocks)
    kept = [float(np.median(block)) for block in found.get(True, []) if block]
    error = float(np.median(np.abs(fitted.value / np.asarray(kept) - 1))) if kept else None
    limited = min(2.0, max(1.0, fitted.value))
    low, high = fitted.interval or (limited, limited)
    return fitted._replace(
        value=limited, interval=(min(low, limited), min(2.0, max(high, limited))), held_out_error=error
    )


def pageable(samples: list[ProbeSample], direction: str, memory: str) -> Estimate | None:
    """Rate of copies of pageable memory [bytes/s]; None where none were measured."""
    chosen = [s for s in samples if s.config["direction"] == direction and s.config["memory"] == memory]
    blocks: Blocks = [[float(s.config["bytes"]) / t for t in s.readings["seconds"]] for s in chosen if not s.held_out]
    if not blocks:
        return None
    fitted = estimated(blocks)
    kept = [float(s.config["bytes"]) / float(np.median(s.readings["seconds"])) for s in chosen if s.held_out]
    return fitted._replace(held_out_error=abs(fitted.value / kept[0] - 1) if kept else None)


def together(samples: list[ProbeSample], direction: str) -> Estimate | None:
    """Rate of all GPUs copying at once in one direction or both [bytes/s]; None where that was not measured."""
    chosen = [s for s in samples if s.config["direction"] == direction and not s.held_out]
    blocks = []
    for sample in chosen:
        moved = float(sample.config["bytes"]) * int(sample.config["gpus"])
        lists = list(sample.readings.values())
        blocks.append([sum(moved / t for t in at_once) for at_once in zip(*lists, strict=True)])
    return estimated(blocks) if blocks else None
