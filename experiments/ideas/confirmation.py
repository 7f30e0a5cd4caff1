"""What the committed replays of ideas should show, and what they showed.

The list (calibration/replays/ideas.toml) has the ideas with the largest predicted gains, gating and late placement, and
some that are predicted to lose. Predictions are for catalogue nodes of one and two GPUs and for calibrated ones. Gain:
how much less a step takes than plain layerwise's, of the step that plain layerwise takes.
"""

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from rich.table import Table

from calibration.replays.cases import GPUS, ReplayCase, load_cases, without_kind
from calibration.validate.records import NODES, ReplayRecord, read_records
from offsim.results.layout import new_table, render
from offsim.results.predict import predict
from offsim.scenario.load import load_node
from offsim.scenario.node import Node

CATALOGUE = {
    "x1": ("h200-x1",),
    "x2-host-memory": ("h200-x2-host-memory", "h100-sxm-x2-host-memory"),
    "x2-nvlink": ("h200-x2-nvlink", "h100-sxm-x2-nvlink"),
}
COLUMNS = ("case", "resident\nms", "plain", "idea", "gain")


class Steps(NamedTuple):
    """Seconds of a steady step."""

    resident: float
    plain: float
    idea: float

    @property
    def gain(self) -> float:
        """Of plain layerwise's step."""
        return 1 - self.idea / self.plain

    def cells(self) -> list[str]:
        """As a row has them: over the resident model's step, and the gain."""
        over = [f"{100 * (seconds / self.resident - 1):+.1f} %" for seconds in (self.plain, self.idea)]
        return [f"{1e3 * self.resident:.1f}", *over, f"{100 * self.gain:+.1f} %"]


def predicted(case: ReplayCase, node: str | Node) -> Steps:
    """A case on a node."""
    plain = case.other(node)
    assert plain is not None
    return Steps(*(predict(scenario).steady for scenario in (case.resident(node), plain, case.scenario(node))))


def measured(record: ReplayRecord) -> Steps:
    """A case as it ran: medians of steady steps."""
    plain = median(run[i] for run in record.beside_steps for i in record.steady_indices)
    return Steps(record.resident(), plain, record.policy())


def nodes_of(kind: str) -> list[tuple[str, str]]:
    """Names of nodes of a kind, each with what a scenario calls it: catalogue nodes, then calibrated ones."""
    found = [(name, name) for name in CATALOGUE[kind]]
    for path in sorted(NODES.glob("*/profile.toml")):
        node = load_node(str(path))
        transport = node.wiring.collectives.transport if node.wiring.collectives is not None else ""
        if node.gpus == GPUS[kind] and kind.endswith(transport):
            found.append((f"{path.parent.name}, calibrated", str(path)))
    return found


def answer() -> str:
    """A table per node, and one per node where the list was replayed."""
    parts = [
        render(_table(f"predicted for {name}", [(case, predicted(case, node)) for case in load_cases(kind, "ideas")]))
        for kind in CATALOGUE
        for name, node in nodes_of(kind)
    ]
    records = [record for record in read_records()[0] if record.beside_steps]
    nodes = dict.fromkeys(record.node for record in records)
    parts += [_compared(name, [record for record in records if record.node == name]) for name in nodes]
    unmeasured = [kind for kind in CATALOGUE if not any(record.case.kind == kind for record in records)]
    parts += [f"No node of kind {kind} has replayed its part of the list yet.\n" for kind in unmeasured]
    return "\n".join(parts)


def _table(title: str, rows: list[tuple[ReplayCase, Steps]]) -> Table:
    table = new_table(title, *COLUMNS)
    for case, steps in rows:
        table.add_row(without_kind(case.name), *steps.cells())
    return table


def _compared(node: str, records: list[ReplayRecord]) -> str:
    table = new_table(f"measured on {node}", *COLUMNS, "predicted", "error,\npoints")
    for record in records:
        for row in _rows(record):
            table.add_row(*row)
    return render(table)


def _rows(record: ReplayRecord) -> Iterator[list[str]]:
    found, expected = measured(record), predicted(record.case, str(record.profile))
    error = 100 * (expected.gain - found.gain)
    yield [without_kind(record.case.name), *found.cells(), f"{100 * expected.gain:+.1f} %", f"{error:+.1f}"]
