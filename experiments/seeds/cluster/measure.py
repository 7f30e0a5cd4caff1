"""A steady step of one scenario, as a profiler would show it: exchanges, copies, and which met which."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.spans import Span
from offsim.results.steps import step_rows
from offsim.scenario.scenario import Scenario

from ..common import HERE, variant
from .unequal import LARGE

RESIDENT: dict[str, Any] = {"name": "resident"}
"""What full-model offload is in a steady step."""


class Steady(NamedTuple):
    """The third step and all exchanges and copies of the run."""

    seconds: float
    kernels: float
    """Of the step."""
    all_to_all: float
    """Mean duration of a large one."""
    beside: float
    """Mean duration of the large ones that met a copy."""
    copied_outside: float
    """Share of copied bytes that arrive while no exchange runs."""
    copy_rate_beside: float
    """Of one GPU while an exchange runs [bytes/s]."""

    @property
    def exposed(self) -> float:
        """What is no kernel: exchanges, and waits for weights."""
        return self.seconds - self.kernels


def asked(
    policy: dict[str, Any],
    node: dict[str, Any] | None = None,
    path: Path = HERE / "cluster" / "full-model.toml",
    **work: Any,
) -> Scenario:
    """Three steps of full-model.toml, or another file, with other values; every block simulated."""
    every = {"steady_state": False, "block_period": False}
    tables = {"policy": policy, "node": node or {}, "workload": {"steps": 3, **work}, "simulation": every}
    return variant(path, tables)


def steady(scenario: Scenario, *, proportional_weight: bool = True) -> Steady:
    """Simulate and measure."""
    program = build(scenario)
    timeline = simulate(scenario, program, proportional_weight=proportional_weight)
    row = step_rows(program, timeline)[2]
    spans = [span for span in timeline.spans if span.rank == 0]
    copies = [span for span in spans if span.kind == "H2D"]
    exchanges = [
        span for span in spans if span.kind == "collective" and span.bytes > LARGE and "gather" not in span.name
    ]
    met = [span for span in exchanges if overlapped([span], copies) > 0]
    outside, rate = _copied(copies, [s for s in spans if s.kind == "collective"], copies_alone(scenario))
    return Steady(row.duration, row.losses.compute, _mean(exchanges), _mean(met), outside, rate)


def _mean(spans: Sequence[Span]) -> float:
    return sum(span.duration for span in spans) / len(spans) if spans else 0.0


def copies_alone(scenario: Scenario) -> float:
    """What each GPU's copy gets while all copy and nothing else runs [bytes/s]."""
    node, gpus = scenario.node, scenario.workload.gpus
    uplinks = [s for s in node.wiring.switches if 0 in s.gpus]
    shared = [uplink.h2d.value / sum(gpu < gpus for gpu in uplink.gpus) for uplink in uplinks]
    return min(node.wiring.pcie.h2d.value, node.host.sockets[0].read.value / gpus, *shared)


def _copied(copies: list[Span], collectives: list[Span], alone: float) -> tuple[float, float]:
    """The share of bytes copied while no collective runs, and the rate while one does."""
    if not copies:
        return 0.0, 0.0
    beside = overlapped(collectives, copies)
    moved, busy = sum(span.bytes for span in copies), sum(span.duration for span in copies)
    outside = min((busy - beside) * alone, moved)
    return outside / moved, (moved - outside) / beside if beside else 0.0


def overlapped(some: Sequence[Span], others: Sequence[Span]) -> float:
    """Seconds in which one of `some` and one of `others` run; neither kind overlaps with itself."""
    total, at = 0.0, 0
    ordered = sorted(others, key=lambda span: span.start)
    for span in sorted(some, key=lambda span: span.start):
        while at < len(ordered) and ordered[at].end <= span.start:
            at += 1
        for other in ordered[at:]:
            if other.start >= span.end:
                break
            total += min(span.end, other.end) - max(span.start, other.start)
    return total
