"""Readings of how the cluster is wired, each held to what was measured there: by hand, and simulated.

By hand: an all-to-all takes no less than the bytes over its busiest link divided by that link's rate. A rank sends
165.9 MB, 55.3 to each peer, and takes in as much.
"""

from typing import Any, NamedTuple

from rich.table import Table

from offsim.scenario.scenario import Scenario

from ..common import expected, layerwise
from .measure import RESIDENT, asked, copies_alone, steady
from .unequal import Exchange, run_unequal

SENT = 165.888
"""MB that a rank sends in one large all-to-all."""
UPLINK, RANK = 49.8, 23.6
"""GB/s: what four copies get together, and what the shortest all-to-all shows of one rank."""
CALLS = 480
"""Large all-to-alls of a step: 40 blocks x 2 forwards x 6."""
CALLS_SMALL = 160
NEVER_MS = 200.0
"""By which the last rank comes late when nothing but its own transfers is left of a call."""


class Wiring(NamedTuple):
    """One way in which four GPUs may hang together."""

    name: str
    node: dict[str, Any]
    megabytes: float
    """Over the busiest link, each way."""
    rate: float
    """Of that link [GB/s]."""

    @property
    def at_least(self) -> float:
        """Milliseconds of a large all-to-all, by hand."""
        return self.megabytes / self.rate


def guessed(value: float) -> dict[str, Any]:
    """A value of a reading."""
    return {"value": value, "provenance": "guess", "source": "a reading of the wiring"}


def switch(*gpus: int, rate: float = UPLINK) -> dict[str, Any]:
    """Some GPUs with one uplink."""
    return {"gpus": list(gpus), "h2d_GBps": guessed(rate), "d2h_GBps": guessed(rate)}


def memory(both: float = 455.2, each: float = 441.3) -> dict[str, Any]:
    """What passes between all switches and host memory, each way and in all."""
    socket = {"read_GBps": guessed(each), "write_GBps": guessed(each), "total_GBps": guessed(both)}
    return {"sockets": [socket]}


def wired(transport: str, *switches: dict[str, Any]) -> dict[str, Any]:
    """Which GPUs share an uplink, and how NCCL talks."""
    return {"wiring": {"switches": list(switches), "collectives": {"transport": transport}}}


PAIRS = switch(0, 1), switch(2, 3)
WIDE = switch(0, 1, rate=55.2), switch(2, 3, rate=55.2)
FOUR = switch(0, 1, 2, 3)
WIRINGS = (
    Wiring("own root ports, host memory", wired("host-memory"), SENT, RANK),
    Wiring("two per uplink, peer to peer", wired("pcie", *PAIRS), SENT, RANK),
    Wiring("two per uplink, host memory", wired("host-memory", *PAIRS), SENT, RANK),
    Wiring("one uplink, peer to peer", wired("pcie", FOUR), SENT, RANK),
    Wiring(
        "one uplink, pairs peer to peer",
        {**wired("pcie", *WIDE), "host": memory(each=UPLINK)},
        4 * SENT * 2 / 3,
        UPLINK,
    ),
    Wiring("one uplink, host memory", wired("host-memory", FOUR), 4 * SENT, UPLINK),
    Wiring(
        "one uplink, host memory, 1.58 of one way for both",
        {**wired("host-memory", FOUR), "host": memory(both=1.58 * UPLINK)},
        8 * SENT,
        1.58 * UPLINK,
    ),
)
CHOSEN = WIRINGS[5]


class Late(NamedTuple):
    """A large all-to-all whose last rank comes late [s]."""

    together: float
    """All ranks come at once."""
    last: float
    """The kernel of a rank that comes when all else is done."""
    waiting: float
    """The kernels of the other three."""


def lateness(scenario: Scenario, late: float = NEVER_MS / 1e3) -> Late:
    """One large all-to-all, with ranks that come at once and with one that comes late."""
    call, alike = [Exchange(0.0, 1e6 * SENT)], (0.0,) * 4
    together, apart = run_unequal(scenario, call, alike), run_unequal(scenario, call, alike, late=late)
    return Late(together.large()[0], apart.large(3)[0], max(apart.large()))


def steady_all_to_all() -> float:
    """Seconds of a large all-to-all in a steady step, if what is no kernel there is all-to-alls."""
    rows = expected("cluster")
    others = rows["full-model steady step"].value - rows["kernels in 27 steps"].value / 27
    return (others - CALLS_SMALL * rows["all-to-all of 5 MiB"].value / 1e3) / CALLS


def wiring_table() -> Table:
    """What each reading gives beside what was measured."""
    table = Table(title="Readings of the wiring, held to what was measured (nothing fitted)")
    table.add_column("reading")
    for column in ("copies, GB/s", "by hand, ms", "all-to-all, ms", "last, ms", "small, ms", "slowest", "layerwise, s"):
        table.add_column(column, justify="right", no_wrap=True)
    rows, measured = expected("cluster"), steady_all_to_all()
    for wiring in WIRINGS:
        table.add_row(wiring.name, *_cells(wiring, measured, rows["kernels in 27 steps"].value / 27))
    shortest, small = rows["shortest all-to-all of 210.9 MiB"].value, rows["all-to-all of 5 MiB"].value
    copied = rows["copy rate with four copying"].value
    table.add_row(
        "measured", f"{copied:.1f}", "", f"{1e3 * measured:.1f}", f"{shortest:.2f}", f"{small:.3f}", "", "1.8"
    )
    return table


def _cells(wiring: Wiring, measured: float, kernels: float) -> list[str]:
    alone = asked(RESIDENT, wiring.node)
    late, base = lateness(alone), steady(alone)
    small = run_unequal(alone, [Exchange(0.0, 3_932_160)], (0.0,) * 4).small()[0]
    costs = sorted(
        steady(asked(layerwise("v1"), wiring.node), proportional_weight=weight).seconds - base.seconds
        for weight in (False, True)
    )
    return [
        f"{copies_alone(alone) / 1e9:.1f}",
        f"{wiring.at_least:.1f}",
        f"{1e3 * late.together:.1f}",
        f"{1e3 * late.last:.2f}",
        f"{1e3 * small:.3f}",
        f"{100 * CALLS * (measured - late.together) / kernels:+.0f} %",
        f"{costs[0]:.1f} to {costs[1]:.1f}",
    ]


WIRING_VERDICT = (
    "Columns: what each of four copies gets; a large all-to-all by hand, simulated with ranks that come at once, and the"
    " kernel of a rank that comes 200 ms after the others; a small all-to-all; by how much longer, at"
    " least, the slowest rank's kernels would have to take than the traced one's for the rest of the measured time; what a layerwise step costs in bf16."
    "\nOne uplink, and exchanges through host memory: of the readings with 12.4 GB/s a GPU the only one that has the"
    " all-to-alls as they were measured, large and small. Every byte of an exchange goes up the uplink and comes down again,"
    " four ranks at once: 663.6 MB at 49.8 GB/s each way. The shortest of 12,960 calls does not speak against it. A rank"
    " that comes when the others are done with each other has the uplink for its own transfers, and 165.9 MB out and in go"
    " at one rank's own rate (which is read off that call: 23.6 GB/s; two H200 through host memory had 23.5). In that very"
    " call the others wait: 1.93 s was the longest. So the minimum tells the rate of a rank, and the mean the link."
    "\nThe others: peer to peer below the uplink an all-to-all would take 7.1 ms, the slowest rank would have to compute a"
    " quarter longer than the traced one, small calls would take 0.22 ms, and layerwise would cost nothing. With pairs that"
    " exchange peer to peer it would have to be a fifth, and small calls take 0.26 ms. If the uplink had a limit on both"
    " ways together (1.58 of one, as a GPU's link on other machines), even the last rank's call would take 8.5 ms: more than"
    " the shortest measured."
)


def unequal_table(exchanges: list[Exchange], scenario: Scenario) -> Table:
    """What waiting for slower ranks adds on the wiring that was chosen."""
    table = Table(title="Four ranks from the fastest to the slowest, evenly: ten blocks of a steady step, full-model")
    for column in ("slowest rank's kernels", "step, s", "large all-to-all, ms: fastest rank", "slowest", "shortest"):
        table.add_column(column, justify="right")
    for percent in (0, 2, 4, 6, 8, 10):
        slower = tuple(percent / 100 * rank / 3 for rank in range(4))
        found = run_unequal(scenario, exchanges, slower, blocks=10)
        fastest, slowest = found.large(0), found.large(3)
        table.add_row(
            f"+{percent} %",
            f"{8 * found.seconds:.2f}",
            f"{1e3 * sum(fastest) / len(fastest):.1f}",
            f"{1e3 * sum(slowest) / len(slowest):.1f}",
            f"{1e3 * min(found.large()):.2f}",
        )
    return table


UNEQUAL_VERDICT = (
    "Measured: 20.715 s, 14.5 ms in a steady step (16.2 in the mean of all 27 steps, whose first and switch step wait for the"
    " slowest swap). Between equal ranks and the measured step lie 0.54 s (2.6 %). Ranks whose kernels differ by 9 % would"
    " explain it, if the traced one is the fastest. Waiting costs less than it seems: who comes late finds the uplink half"
    " empty. One measurement tells: of each call the shortest of the four ranks' kernels, in the traces that exist."
)
