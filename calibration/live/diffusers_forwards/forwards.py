"""Forwards of a mode beside forwards without offloading, in turns: R M M R, since both drift with the chip's clock.

Forwards end with a device synchronisation and are timed by the host's clock. One more forward runs under the profiler,
for where its time went. A limit on the time of everything is shared out among what is left to measure.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from math import ceil
from typing import Any, NamedTuple

import torch

from calibration.live.sensors import sensors

from .model import MODES, WanShape, WanWeights, forget, forward_of, offload
from .trace import traced

RESIDENT_RUN_SECONDS = 1.5
"""How long a run without offloading lasts at least: its first 0.2 s, in which the clock settles, don't count."""
MODE_SECONDS = 3.0
MOST_FORWARDS = 8
QUICK = 3.0
"""Forwards that take longer are repeated less [s]."""
Forward = Callable[[], Any]


class ForwardPair(NamedTuple):
    """A mode's forward and the resident one, and how many seconds one of each takes."""

    resident: Forward
    mode: Forward
    resident_s: float
    mode_s: float

    def counts(self) -> dict[str, int]:
        """How many forwards one run has, of each kind."""
        of_resident = min(ceil(RESIDENT_RUN_SECONDS / self.resident_s), 2 * MOST_FORWARDS)
        return {"R": of_resident, "M": min(max(1, round(MODE_SECONDS / self.mode_s)), MOST_FORWARDS)}

    def order(self, allowed: float) -> str:
        """The runs that fit into `allowed` seconds: two of each, else one between two resident runs."""
        counts = self.counts()
        both = counts["R"] * self.resident_s + counts["M"] * self.mode_s
        return "RMMR" if 2 * both <= allowed else "RMR"


class ForwardBench:
    """The device and the weights that forwards are measured with, and how much time is left."""

    def __init__(self, shape: WanShape, device: Any, limit: float) -> None:
        self.device, self.shape, self.limit = device, shape, limit
        self.begun = time.monotonic()
        self.on_gpu = device.type == "cuda"
        self.workspace = _workspace(device)
        self.weights = WanWeights(shape, device)
        self.resident = self.weights.model(resident=True)

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.limit - (time.monotonic() - self.begun)

    def synchronize(self) -> None:
        """Wait until the device is idle."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, forward: Forward) -> float:
        """Seconds of one forward, until the device has done it."""
        self.synchronize()
        begin = time.perf_counter()
        forward()
        self.synchronize()
        return time.perf_counter() - begin

    def forget_peaks(self) -> None:
        """Let levels of the device allocator count from here."""
        if self.on_gpu:
            self.synchronize()
            torch.cuda.reset_peak_memory_stats()

    def peaks(self) -> dict[str, int]:
        """Highest levels since `forget_peaks` [bytes]: handed out, not yet reusable, taken from the driver."""
        if not self.on_gpu:
            return {}
        stats = torch.cuda.memory_stats()
        return {kind: stats[f"{kind}_bytes.all.peak"] for kind in ("allocated", "active", "reserved")}


def _workspace(device: Any) -> int:
    """Bytes that the first matrix product leaves allocated."""
    if device.type != "cuda":
        return 0
    small = torch.randn(512, 512, dtype=torch.bfloat16, device=device)
    out = torch.empty_like(small)
    before = int(torch.cuda.memory_allocated())
    torch.mm(small, small, out=out)
    return int(torch.cuda.memory_allocated()) - before


def measure_mode(bench: ForwardBench, forward: Forward, tokens: int, share: float, before: float) -> dict[str, Any]:
    """One mode at one length: its first forwards, turns with the resident one, memory and profile.

    `share` of the time left may be used. `before`: what a forward of the mode took at the length before [s]; 0 if it
    has not run yet, and its first forward differs.
    """
    until = time.monotonic() + share * bench.left
    resident = forward_of(bench.resident, bench.weights.inputs(tokens))
    resident()
    # The first traces (then once more), others fill the allocator's cache; slow modes gain nothing by either.
    first = [bench.seconds(forward)] if before < QUICK else []
    if not before and first[0] < QUICK:
        first.append(bench.seconds(forward))
    pair = ForwardPair(resident, forward, bench.seconds(resident), first[-1] if first else before)
    order = pair.order(until - time.monotonic() - 1.5 * pair.mode_s)
    found: dict[str, Any] = {"first_s": first, "order": order} | turns(bench, pair, order)
    if pair.mode_s < QUICK or until - time.monotonic() > pair.mode_s:
        found["profile"] = traced(bench, forward)
    return found | {"state": _state(bench)}


def turns(bench: ForwardBench, pair: ForwardPair, order: str) -> dict[str, Any]:
    """Seconds of every forward, run by run, and the mode's highest levels of memory."""
    runs: dict[str, list[list[float]]] = {"R": [], "M": []}
    peaks: list[dict[str, int]] = []
    for turn in order:
        bench.forget_peaks()
        chosen = pair.mode if turn == "M" else pair.resident
        runs[turn].append([bench.seconds(chosen) for _ in range(pair.counts()[turn])])
        if turn == "M":
            peaks.append(bench.peaks())
    return {"resident_s": runs["R"], "mode_s": runs["M"], "peaks": peaks}


def lines_of_mode(bench: ForwardBench, name: str, tokens: list[int], left: int) -> Iterator[dict[str, Any]]:
    """The lines of one mode, length by length; `left` is how many lines are still to be measured."""
    forget()
    level = torch.cuda.memory_allocated() if bench.on_gpu else 0
    begin = time.monotonic()
    model = bench.weights.model(resident=False)
    offload(model, MODES[name], bench.device)
    bench.synchronize()
    setup, spent, before = time.monotonic() - begin, 0.0, 0.0
    for number, length in enumerate(tokens):
        # Longer sequences take longer: what the one before took is the least.
        if bench.left <= spent:
            yield _line(name, length) | {"error": "out of time"}
            continue
        started = time.monotonic()
        try:
            inputs = bench.weights.inputs(length)
            share = 1 / (left - number)
            found = measure_mode(bench, forward_of(model, inputs), length, share, before)
        except Exception as error:
            yield _line(name, length) | _failure(error)
            continue
        spent, before = time.monotonic() - started, found["mode_s"][-1][-1]
        yield _line(name, length) | found | {"setup_s": setup, "spent_s": spent, "level_before_mode": level}
    del model


def resident_lines(bench: ForwardBench, tokens: list[int]) -> Iterator[dict[str, Any]]:
    """Lines of forwards without offloading: memory and profile; their seconds stand beside every mode."""
    for length in tokens:
        forward = forward_of(bench.resident, bench.weights.inputs(length))
        bench.seconds(forward)
        bench.forget_peaks()
        seconds = [bench.seconds(forward) for _ in range(2)]
        found = {"resident_s": [seconds], "peaks": [bench.peaks()], "state": _state(bench)}
        yield _line("resident", length) | found | {"profile": traced(bench, forward)}


def _line(mode: str, tokens: int) -> dict[str, Any]:
    policy = MODES.get(mode, {"name": "resident"})
    return {"record": "diffusers-forwards", "mode": mode, "policy": policy, "tokens": tokens}


def _failure(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    return {"error": f"{type(error).__name__}: {error}"[:2000]}


def _state(bench: ForwardBench) -> dict[str, float]:
    """Clock, power and temperature now, where the device tells."""
    if not bench.on_gpu:
        return {}
    try:
        return sensors()
    except Exception as error:
        print(f"no device state: {error}", file=sys.stderr)
        return {}


def all_lines(bench: ForwardBench, modes: list[str], tokens: list[int]) -> Iterator[dict[str, Any]]:
    """Every line of a measurement, the quick modes first; a mode that cannot be set up leaves its error."""
    from .costs import costs, small_forwards
    from .elementwise import elementwise_times

    yield from resident_lines(bench, tokens)
    yield costs(bench)
    yield small_forwards(bench, modes)
    yield elementwise_times(bench, tokens)
    left = len(modes) * len(tokens)
    for name in modes:
        try:
            yield from lines_of_mode(bench, name, tokens, left)
        except Exception as error:
            yield _line(name, 0) | _failure(error)
        left -= len(tokens)
