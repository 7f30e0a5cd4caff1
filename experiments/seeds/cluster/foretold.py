"""What nobody has published of the cluster, predicted: each number with its interval, and what the interval is made of.

The interval is that of five readings beside the central one, each with one input changed and the compute rate fitted
anew; of whole steps it is widened by what full-model's own step was missed by. What that lacks of the measured one
(0.54 s) is carried over unchanged.
"""

from collections.abc import Callable
from functools import cache
from math import hypot
from typing import Any, NamedTuple

from rich.table import Table

from offsim.results.predict import predict

from ..common import expected, layerwise
from .measure import RESIDENT, Steady, asked, steady
from .wirings import CALLS, CALLS_SMALL, FOUR, guessed, switch, wired

SCHEDULED = {"name": "scheduled-layerwise"}
POLICIES: dict[str, dict[str, Any]] = {
    "no offload": RESIDENT,
    "layerwise": layerwise("v1"),
    "sharded": {**SCHEDULED, "sharded": True, "gather": "compute-stream"},
    "at the FFN": {**SCHEDULED, "placement": "last-kernels"},
    "at the FFN, two ahead": {**SCHEDULED, "placement": "last-kernels", "prefetch": 2},
    "spread": {**SCHEDULED, "placement": "spread", "chunks": 8, "prefetch": 2},
}
STEPS = 27
WIDEST = 0.10
"""Share of a value beyond which an interval says too little."""


class Assumed(NamedTuple):
    """One set of inputs that nobody has measured."""

    name: str
    weight: float = 0.28
    """Of NCCL's kernels on the uplink against one copy engine."""
    per_peer: bool = True
    """Whether that counts for each of three peers."""
    uplink: float = 49.8
    """Towards the GPUs [GB/s]."""
    attention: float = 558.0
    """What SageAttention reaches before the fitted rate [TFLOP/s]: its share of a block."""


CENTRAL = Assumed("central")
OTHERS = (
    Assumed("weight 0.28 in all", per_peer=False),
    Assumed("weight 0.5 a peer", weight=0.5),
    Assumed("uplink 55.2 GB/s", uplink=55.2),
    Assumed("attention at 402 TFLOP/s", attention=402.0),
    Assumed("attention at 720 TFLOP/s", attention=720.0),
)
INPUTS = (
    "Inputs. Fitted: one compute rate, to 369.7 s of kernels in 27 steps. Measured there: 12.4 GB/s a GPU with four copying,"
    " 23.6 GB/s of one rank (the shortest all-to-all), full-model's steady step 20.715 s. Carried over from other machines:"
    " NCCL's weight on a shared link, 0.28 a peer (2 x H100; its ends are 0.28 in all, as it was measured with one peer, and"
    " 0.5 a peer, near which layerwise would cost what seed 000 had), page-fault rates (H200), 25.2 GB/s"
    " of an all-gather. Guessed: SageAttention's share of a block. SGLang v1: 39 of 40 blocks copied a forward, 86,400"
    " tokens, 6 large and 2 small all-to-alls a block, bf16."
)


@cache
def fitted(assumed: Assumed) -> dict[str, Any]:
    """The node and the workload of a reading, with the compute rate that gives the measured kernels."""
    points = [[512, round(0.722 * assumed.attention)], [16384, assumed.attention]]
    sage = {"points_TFLOPS": points, "provenance": "guess", "source": "a reading"}
    up = switch(0, 1, 2, 3, rate=assumed.uplink) if assumed.uplink != CENTRAL.uplink else FOUR
    node = wired("host-memory", up) | {"gpu": {"attention": {"sage": sage}}}
    node["wiring"]["collectives"]["all_to_all"] = {"weight": guessed(assumed.weight)}
    target = expected("cluster")["kernels in 27 steps"].value / STEPS
    rate = steady(asked(RESIDENT, node, compute_efficiency=0.6)).kernels * 0.6 / target
    return {"node": node, "compute_efficiency": rate}


@cache
def ran(assumed: Assumed, policy: str) -> Steady:
    """A steady step of a policy under a reading."""
    return steady(asked(POLICIES[policy], **fitted(assumed)), proportional_weight=assumed.per_peer)


class Foretold(NamedTuple):
    """One number, predicted."""

    name: str
    unit: str
    central: float
    low: float
    high: float
    forbids: str = ""
    """What is not known, where the interval is too wide to say anything."""

    @property
    def width(self) -> float:
        """Half the interval, as a share of its middle."""
        return (self.high - self.low) / (self.high + self.low)

    def widened(self, share: float) -> "Foretold":
        """With an error of its own beside that of its inputs."""
        own = share * self.central
        low = self.central - hypot(self.central - self.low, own)
        return self._replace(low=low, high=self.central + hypot(self.high - self.central, own))


Pick = Callable[[Steady, Steady], float]
"""Of the policy's step and the one without offload."""
WEIGHT = (
    "NCCL's weight on a shared uplink; one measurement gives it: all-to-alls back to back beside copies on all four GPUs"
    " (offsim calibrate has the probe)"
)


def _step(found: Steady, base: Steady) -> float:
    return expected("cluster")["full-model steady step"].value + found.seconds - base.seconds


def _exposed(found: Steady, base: Steady) -> float:
    """What of a step is no kernel [s]."""
    return _step(found, base) - found.kernels


def _large(found: Steady, base: Steady) -> float:
    small = CALLS_SMALL * expected("cluster")["all-to-all of 5 MiB"].value / 1e3
    return 1e3 * (_exposed(found, base) - small) / CALLS


ASKED: tuple[tuple[str, str, str, Pick], ...] = (
    ("layerwise, steady step", "s", "layerwise", _step),
    ("layerwise, 27 steps, the first as a steady one", "s", "layerwise", lambda f, b: STEPS * _step(f, b)),
    ("layerwise, mean large all-to-all of a steady step", "ms", "layerwise", _large),
    ("layerwise, large all-to-all that meets a copy", "ms", "layerwise", lambda f, _: 1e3 * f.beside),
    ("layerwise, copy rate of a GPU beside an all-to-all", "GB/s", "layerwise", lambda f, _: f.copy_rate_beside / 1e9),
    ("layerwise, bytes copied outside all-to-alls", "%", "layerwise", lambda f, _: 100 * f.copied_outside),
    ("layerwise, exposed collectives of 27 steady steps", "s", "layerwise", lambda f, b: STEPS * _exposed(f, b)),
    ("1/4 copied by each rank, all-gather on the compute stream: step", "s", "sharded", _step),
    ("requested at the FFN, one block ahead: step", "s", "at the FFN", _step),
    ("requested at the FFN, two blocks ahead: step", "s", "at the FFN, two ahead", _step),
    ("eight chunks between the exchanges, two blocks ahead: step", "s", "spread", _step),
)


def foretold() -> list[Foretold]:
    """All that is predicted."""
    base, measured = ran(CENTRAL, "no offload").seconds, expected("cluster")["full-model steady step"].value
    found = []
    for name, unit, policy, pick in ASKED:
        values = [pick(ran(reading, policy), ran(reading, "no offload")) for reading in (CENTRAL, *OTHERS)]
        number = Foretold(name, unit, values[0], min(values), max(values))
        number = number.widened(1 - base / measured) if unit == "s" else number
        found.append(number._replace(forbids=WEIGHT) if number.width > WIDEST else number)
    return found


def switch_costs() -> float:
    """What layerwise's switch step takes beyond a steady one [s]."""
    run = predict(asked(POLICIES["layerwise"], **fitted(CENTRAL), steps=STEPS))
    return run.steps[18].duration - run.steps[10].duration


def foretold_table(title: str, numbers: list[Foretold]) -> Table:
    """Each number, its interval and whether that is narrow enough to say something."""
    table = Table(title=title)
    for column in ("quantity", "predicted", "interval", "+-", ""):
        table.add_column(column, justify="left" if column in ("quantity", "") else "right")
    for n in numbers:
        said = f"{n.central:.4g} {n.unit}", f"{n.low:.4g} to {n.high:.4g}", f"{100 * n.width:.0f} %"
        table.add_row(n.name, *said, "too wide" if n.forbids else "")
    return table


def unknowns(numbers: list[Foretold]) -> str:
    """Of intervals that are too wide: what would narrow them."""
    wanting: dict[str, list[str]] = {}
    for number in numbers:
        if number.forbids:
            wanting.setdefault(number.forbids, []).append(number.name)
    return "\n".join(f"Too wide ({'; '.join(names)}) for want of {what}." for what, names in wanting.items())


def parts_table() -> Table:
    """The layerwise step under each reading: what the interval is made of."""
    table = Table(title="Layerwise under each reading: one input changed, the compute rate fitted anew")
    for column in ("reading", "compute rate", "costs, s", "copied outside, %", "copy rate beside, GB/s"):
        table.add_column(column, justify="left" if column == "reading" else "right")
    for reading in (CENTRAL, *OTHERS):
        found, base = ran(reading, "layerwise"), ran(reading, "no offload")
        table.add_row(
            reading.name,
            f"{fitted(reading)['compute_efficiency']:.3f}",
            f"{found.seconds - base.seconds:.2f}",
            f"{100 * found.copied_outside:.0f}",
            f"{found.copy_rate_beside / 1e9:.1f}",
        )
    return table
