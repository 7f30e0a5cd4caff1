"""Seeds 001, sections 6, 7, 9 and 10, and 002, section 7: what they ask, answered by numbers on every reading of their cluster.

Steps are steady ones of the seeds' own workload (86,400 tokens at 4 GPUs, 8 all-to-alls a block, bf16 unless said), with the
one efficiency of each reading; overheads are against the same step without offload. Ranges span both extremes of NCCL's weight.
"""

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.commands import Collective
from offsim.results.attribution import Losses
from offsim.results.predict import two_weights
from offsim.results.steps import UseRow, step_rows
from offsim.scenario.scenario import Scenario

from ..common import layerwise
from ..pcie_4x_h100 import READINGS, Reading, efficiency_of, scenario
from .memory import MEMORY_VERDICT, memory_table

RESIDENT: dict[str, Any] = {"name": "resident"}
PLAIN = layerwise("v1")
POINT = 0.2
"""Percentage points below which two overheads are the same."""
Efficiencies = dict[Reading, float]
Range = tuple[float, float]


def main(console: Console) -> bool:
    """Print an answer to each question."""
    efficiencies = {reading: efficiency_of(reading) for reading in READINGS}
    for ask in (two_gpus, prefetch_three, exposed, nvlink, halved_bytes):
        table, answer = ask(efficiencies)
        console.print(table)
        console.print(answer)
    console.print(memory_table(efficiencies))
    console.print(MEMORY_VERDICT)
    return True


def rows(asked: Scenario) -> list[UseRow]:
    """The third step under each extreme of the weight: neither the first nor a switch."""
    program = build(asked)
    weights = (False, True) if two_weights(asked, program) else (False,)
    return [step_rows(program, simulate(asked, program, proportional_weight=weight))[2] for weight in weights]


def steps(reading: Reading, policy: dict[str, Any], efficiency: float, **work: Any) -> list[float]:
    """Seconds of a steady step under each extreme."""
    return [row.duration for row in rows(scenario(reading, policy, efficiency, **work))]


def overhead(reading: Reading, efficiency: float, policy: dict[str, Any] = PLAIN, **work: Any) -> Range:
    """Percent over the same step without offload: least and most."""
    (base,) = steps(reading, RESIDENT, efficiency, **work)
    found = [100 * (seconds / base - 1) for seconds in steps(reading, policy, efficiency, **work)]
    return min(found), max(found)


def percent(found: Range) -> str:
    low, high = f"{found[0]:+.1f}", f"{found[1]:+.1f}"
    return f"{low} %" if low == high else f"{low} to {high} %"


def new(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("topology", "collectives", *columns):
        table.add_column(column, justify="left" if column in ("topology", "collectives") else "right")
    return table


def by_reading(title: str, efficiencies: Efficiencies, columns: dict[str, Callable[[Reading, float], str]]) -> Table:
    """A row per reading, a column per measure."""
    table = new(title, *columns)
    for reading, efficiency in efficiencies.items():
        table.add_row(reading.name, reading.transport, *(ask(reading, efficiency) for ask in columns.values()))
    return table


def two_gpus(efficiencies: Efficiencies) -> tuple[Table, str]:
    """001, 10.1: is layerwise relatively faster on two GPUs?"""
    found = {r: {n: overhead(r, e, gpus=n) for n in (2, 4, 8)} for r, e in efficiencies.items()}
    table = new("1. Layerwise over no offload by GPU count", "2 GPUs", "4 GPUs", "8 GPUs")
    for reading, by_count in found.items():
        table.add_row(reading.name, reading.transport, *map(percent, by_count.values()))
    better = [r for r, by_count in found.items() if by_count[2][1] < by_count[4][0] - POINT]
    return table, (
        f"Two GPUs do relatively better than four on {len(better)} of {len(found)} readings ({names(better)}); on the others the "
        f"difference is below {POINT} points. A block computes about twice as long on two GPUs and takes as long "
        "to copy, so copies cover half the share of it; whether that shows depends on whether they meet exchanges at all. So the "
        "test that the seed proposes tells contention from no contention, as it hopes, but it cannot tell which link is shared."
    )


def names(readings: list[Reading]) -> str:
    return "; ".join(f"{r.name}, {r.transport}" for r in readings) or "none"


def prefetch_three(efficiencies: Efficiencies) -> tuple[Table, str]:
    """001, 6.2 and 9.3 B: does prefetch=3 help?"""

    def three(reading: Reading, efficiency: float) -> Range:
        pairs = zip(steps(reading, layerwise("v1", 3), efficiency), steps(reading, PLAIN, efficiency), strict=True)
        changes = [100 * (a / b - 1) for a, b in pairs]
        return min(changes), max(changes)

    def waits(prefetch: int) -> Callable[[Reading, float], str]:
        def of(reading: Reading, efficiency: float) -> str:
            return f"{1e3 * rows(scenario(reading, layerwise('v1', prefetch), efficiency))[0].losses.exposed_copy:.0f}"

        return of

    columns: dict[str, Callable[[Reading, float], str]] = {
        "prefetch 3 against 1": lambda r, e: percent(three(r, e)),
        "waits for weights, P=1, ms": waits(1),
        "P=3, ms": waits(3),
    }
    return by_reading("2. Prefetching three blocks instead of one, 4 GPUs", efficiencies, columns), (
        "Prefetch 3 cannot help where nothing waits for weights, and with one block ahead next to nothing does: a block takes 13 to "
        "51 ms to arrive and 240 ms to compute. It moves the same bytes. What it changes is when: three copies back to back every third "
        "block, so some blocks meet more copies and two of three meet fewer; whether that gains or loses hangs on NCCL's weight. The "
        "0.5 to 1 s a step that the seed expects from it are not there: they are in contention, which depth does not touch."
    )


def exposed(efficiencies: Efficiencies) -> tuple[Table, str]:
    """001, 9.3 C: how large is the exposed H2D beside the all-to-all?"""

    def of(pick: Callable[[Losses], float]) -> Callable[[Reading, float], str]:
        def ask(reading: Reading, efficiency: float) -> str:
            found = [1e3 * pick(row.losses) for row in rows(scenario(reading, PLAIN, efficiency))]
            low, high = f"{min(found):,.0f}", f"{max(found):,.0f}"
            return low if low == high else f"{low} to {high}"

        return ask

    columns = {
        "H2D that kernels wait for": of(lambda losses: losses.exposed_copy),
        "all-to-alls, as if alone": of(lambda losses: losses.exposed_collective),
        "all-to-alls and kernels, slowed by copies": of(lambda losses: losses.contention),
    }
    moved = sum(
        c.bytes for c in build(scenario(READINGS[0], PLAIN, 1.0)).sections[4].commands if isinstance(c, Collective)
    )
    return by_reading("3. Exposed copies against all-to-alls, ms of a step, 4 GPUs", efficiencies, columns), (
        f"Exposed H2D is nil; the all-to-alls (81 GB a step, {moved / 1e9:.0f} GB by count) are exposed whole, since they run on the "
        "compute stream, and what copies cost is how much longer those take. So the answer to 'how much does Ulysses consume' is "
        "3 to 4 s a step with or without offload; layerwise adds the last column."
    )


def nvlink(efficiencies: Efficiencies) -> tuple[Table, str]:
    """Would NVLink remove the cost?"""

    def bridged(reading: Reading) -> dict[str, Any]:
        return {"extends": reading.node, "wiring": {"nvlink": NVLINK, "collectives": EXCHANGES}}

    def ask(gpus: int) -> Callable[[Reading, float], str]:
        return lambda r, e: percent(overhead(r, e, gpus=gpus, node=bridged(r)))

    columns: dict[str, Callable[[Reading, float], str]] = {
        "as it is, 4 GPUs": lambda r, e: percent(overhead(r, e)),
        "exchanges over NVLink, 4 GPUs": ask(4),
        "8 GPUs": ask(8),
        "seconds that NVLink saves of a step, 4 GPUs": lambda r, e: (
            f"{steps(r, PLAIN, e)[0] - steps(r, PLAIN, e, node=bridged(r))[0]:.1f}"
        ),
    }
    return by_reading("4. Layerwise over no offload, if exchanges had links of their own", efficiencies, columns), (
        "NVLink removes layerwise's cost at four GPUs on every reading: what is left are kernels slowed by copies, below 1 %. At eight it "
        "leaves what one shared uplink costs the copies themselves. Most of what it saves has nothing to do with offloading: the exchanges "
        "themselves get fast."
    )


def halved_bytes(efficiencies: Efficiencies) -> tuple[Table, str]:
    """002, 7.2: what would half the bytes do?"""
    unpacked = {"name": "scheduled-layerwise", "transfer_dtype": "int8"}
    plain = {"name": "scheduled-layerwise"}
    columns: dict[str, Callable[[Reading, float], str]] = {
        "fp32": lambda r, e: percent(overhead(r, e, PLAIN, dtype="fp32")),
        "bf16": lambda r, e: percent(overhead(r, e)),
        "int8, unpacked": lambda r, e: percent(overhead(r, e, unpacked)),
        "int8, native": lambda r, e: percent(overhead(r, e, plain, dtype="int8")),
        "int4, native": lambda r, e: percent(overhead(r, e, plain, dtype="int4")),
    }
    costly = {r: e for r, e in efficiencies.items() if overhead(r, e)[0] > 1}
    gone = [100 * (1 - overhead(r, e, plain, dtype="int8")[0] / overhead(r, e)[0]) for r, e in costly.items()]
    return by_reading("5. Layerwise over no offload by what is copied, 4 GPUs", efficiencies, columns), (
        f"Where bf16 copies cost more than 1 %, half the bytes take away {min(gone):.0f} to {max(gone):.0f} % of that: a shorter copy "
        "meets fewer of the exchanges at a block's begin. Unpacking costs 0.9 ms a block here, 0.4 % of a step: where nothing is "
        "contended it is a loss. Low-bit products are taken to run at bf16's rate: no rate of theirs is calibrated."
    )


NVLINK = {
    "send_GBps": {"value": 450, "provenance": "guess", "source": "as if the cards had NVLink"},
    "receive_GBps": {"value": 450, "provenance": "guess", "source": "as if the cards had NVLink"},
}
EXCHANGES = {
    "transport": "nvlink",
    **{
        kind: {
            "rate_GBps": {"value": 370, "provenance": "guess", "source": "as h100-sxm-x8"},
            "latency_us": {"value": 44, "provenance": "guess", "source": "as h100-sxm-x8"},
            "weight": {"value": 0.303, "provenance": "guess", "source": "as h100-sxm-x8"},
        }
        for kind in ("all_to_all", "all_gather")
    },
}
