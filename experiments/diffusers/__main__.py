"""Which of diffusers' offloading modes is fastest, and why, wait by wait.

    python -m experiments.diffusers                       # nodes where the library was measured, else a calibrated one
    python -m experiments.diffusers --node h200-x1-d      # a calibrated node, or a catalogue name

Predicted: 16 Wan-14B blocks (as measured) and all 40 of one expert. Where a node's folder holds forwards of the library,
what was measured stands beside, and what torch's profiler saw.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import structs
from rich.table import Table

from calibration.validate.diffusers_prediction import ForwardError, forward_error, scenario_of
from calibration.validate.diffusers_records import ForwardShape, read_forwards
from calibration.validate.records import NODES, nodes_under
from offsim.program.systems.accelerate_sequential import AccelerateSequential
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.resident import Resident
from offsim.results.attribution import NOTHING_ISSUED
from offsim.results.layout import gib, new_table, render, spaced
from offsim.results.predict import Prediction, predict
from offsim.scenario.load import load_node
from offsim.scenario.node import Node
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario

DEFAULT_NODE = "h200-x1-d"
TOKENS = (8190, 18900, 32760)
SIXTEEN = ForwardShape(blocks=16, heads=40, head_dim=128, ffn=13824, text_tokens=512, text_width=4096)
MODES: dict[str, Policy] = {
    "resident": Resident(),
    "leaf-stream-record": DiffusersGroup(level="leaf", stream=True, record_stream=True),
    "leaf-stream": DiffusersGroup(level="leaf", stream=True),
    "block-stream-record": DiffusersGroup(stream=True, record_stream=True),
    "block-stream": DiffusersGroup(stream=True),
    "block-stream-low-cpu": DiffusersGroup(stream=True, low_cpu_mem_usage=True),
    "sequential": AccelerateSequential(),
    "block": DiffusersGroup(),
}
FORWARDS = 16
OUTSIDE = "transformer other"
KINDS = ("blocks in", "outside in", "outside out", "blocks out", "host")
"""What a forward waits for besides kernels."""
WORDS = {
    "blocks in": "waits for the blocks' weights to come in",
    "blocks out": "writes the blocks' weights back to the host",
    "outside in": "waits for the weights outside the blocks to come in",
    "outside out": "writes the weights outside the blocks back into fresh pageable memory",
    "host": "has nothing to do until the host issues it",
}


class Row(NamedTuple):
    """One mode's forward."""

    mode: str
    prediction: Prediction
    measured: ForwardError | None

    @property
    def seconds(self) -> float:
        return self.prediction.steps[-1].duration

    @property
    def waits(self) -> dict[str, float]:
        """Seconds by kind of wait."""
        found = dict.fromkeys(KINDS, 0.0)
        for what, seconds in self.prediction.waits(self.prediction.steps[-1].index).items():
            found[kind_of(what)] += seconds
        return found


def kind_of(what: str) -> str:
    """Which kind a wait is, by the copy's name; leaf modules outside the blocks count as outside."""
    if what == NOTHING_ISSUED:
        return "host"
    side = "outside" if OUTSIDE in what or ".blocks." not in what else "blocks"
    return f"{side} {'in' if what.startswith('H2D') else 'out'}"


def predicted_rows(node: Node, shape: ForwardShape, tokens: int, measured: dict[str, ForwardError]) -> list[Row]:
    """All modes, the fastest first; where some were measured all have the rates that were read, those also host costs."""
    rows = []
    reference = next(iter(measured.values())).reference.scenario if measured else None
    node = node if reference is None else reference.node
    for mode, policy in MODES.items():
        known = measured.get(mode)
        scenario = scenario_of(shape, tokens, node, policy)
        if known is not None:
            scenario = known.prediction.scenario
        elif mode == "resident" and reference is not None:
            scenario = reference
        rows.append(Row(mode, predict(of_many(scenario)), known))
    return sorted(rows, key=lambda row: row.seconds)


def of_many(scenario: Scenario) -> Scenario:
    """So many forwards that the last one is what a long run has: the chip's burst is over."""
    return structs.replace(scenario, workload=structs.replace(scenario.workload, steps=FORWARDS))


COLUMNS = ("ms", "ratio", "kernels", "in", "out", "outside", "host", "GiB", "real", "error")


def ranking(title: str, rows: list[Row]) -> Table:
    """Forward times [ms] with where they go, measured ratios beside."""
    table = new_table(title, "mode", *COLUMNS)
    resident = next(row for row in rows if row.mode == "resident").seconds
    for row in rows:
        waits, measured = row.waits, row.measured
        parts = (row.prediction.steps[-1].losses.compute, waits["blocks in"], waits["blocks out"])
        others = (waits["outside in"] + waits["outside out"], waits["host"])
        found = ("-", "-") if measured is None else (f"{measured.record.ratio:.3f}", f"{100 * measured.error:+.1f} %")
        times = [milliseconds(seconds) for seconds in (*parts, *others)]
        ratio, peak = f"{row.seconds / resident:.3f}", gib(row.prediction.peak_allocated)
        table.add_row(row.mode, milliseconds(row.seconds), ratio, *times, peak, *found)
    return table


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f}" if seconds else "-"


def reasons(rows: list[Row]) -> str:
    """One sentence per mode: what it waits for most."""
    resident = next(row for row in rows if row.mode == "resident").seconds
    return "\n".join(_reason(row, resident) for row in rows if row.mode != "resident")


def _reason(row: Row, resident: float) -> str:
    lost = row.seconds - resident
    ordered = sorted(row.waits.items(), key=lambda item: -item[1])
    kind, seconds = ordered[0]
    if lost < 0.01 * resident:
        return f"{row.mode}: {1e3 * lost:+.1f} ms, hidden behind kernels."
    more = [f"{name} {1e3 * value:.1f} ms" for name, value in ordered[1:] if value > 0.05 * lost]
    rest = f"; also {', '.join(more)}" if more else ""
    return f"{row.mode}: {1e3 * lost:+.1f} ms, since it {WORDS[kind]} ({1e3 * seconds:.1f} ms{rest})."


def seen_by_profiler(errors: list[ForwardError]) -> Table:
    """What torch's profiler saw of one forward, beside the same sums of the prediction."""
    columns = ("kernels s", "predicted", "H2D s", "predicted", "D2H s", "predicted", "host waits s")
    table = new_table("busy seconds in one forward, by torch's profiler", "mode, tokens", *columns)
    for error in errors:
        seen = error.record.profile_of_forward
        if "busy_s" in seen:
            table.add_row(error.record.name, *_profiled(error, seen))
    return table


def _profiled(error: ForwardError, seen: dict[str, Any]) -> list[str]:
    busy, own = seen["busy_s"], busy_of(error.prediction)
    waiting = sum(seconds for name, _, seconds in seen["host"] if "Synchronize" in name)
    pairs = [(busy["kernels"], own["compute"]), (busy["H2D"], own["H2D"]), (busy["D2H"], own["D2H"])]
    return [*(f"{value:.3f}" for pair in pairs for value in pair), f"{waiting:.3f}"]


def busy_of(prediction: Prediction) -> dict[str, float]:
    """Seconds of kernels and copies in the last forward, as simulated."""
    timeline = prediction.timeline
    index = timeline.recorded_section(len(prediction.program.sections) - 2)
    begin = timeline.real(timeline.step_bounds(0, index)[0])
    end = begin + timeline.step_seconds(0, index)
    sums = {"compute": 0.0, "H2D": 0.0, "D2H": 0.0}
    for span in timeline.shifted_spans():
        if begin <= span.start < end and span.kind in sums and not span.track.endswith("engine"):
            sums[span.kind] += span.duration
    return sums


def chapter(name: str, errors: list[ForwardError]) -> list[Any]:
    """Tables and sentences of one node."""
    profiles = {folder.name: str(profile) for folder, profile in nodes_under(NODES)}
    node = load_node(profiles.get(name, name))
    parts: list[Any] = []
    for tokens in TOKENS:
        measured = {e.record.mode: e for e in errors if e.record.node == name and e.record.tokens == tokens}
        rows = predicted_rows(node, SIXTEEN, tokens, measured)
        parts += [ranking(f"{name}: 16 Wan-14B blocks, {tokens:,} tokens", rows), reasons(rows)]
    whole = predicted_rows(node, SIXTEEN._replace(blocks=40), TOKENS[-1], {})
    parts += [ranking(f"{name}: all 40 blocks of an expert, {TOKENS[-1]:,} tokens", whole), reasons(whole)]
    own = [error for error in errors if error.record.node == name]
    return [*parts, seen_by_profiler(own)] if own else parts


def state_of_data(errors: list[ForwardError]) -> str:
    """What has been measured."""
    if not errors:
        return "The library has not been measured on any node yet: all numbers below are predicted."
    nodes = sorted({error.record.node for error in errors})
    worst = max(errors, key=lambda error: abs(error.error))
    return f"Measured on {', '.join(nodes)}: {len(errors)} forwards, worst error {100 * worst.error:+.1f} % ({worst.record.name})."


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", help="a folder of calibration/nodes or a catalogue name")
    parser.add_argument("--root", type=Path, default=NODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    errors = [forward_error(record) for record in read_forwards(options.root)[0]]
    nodes = [options.node] if options.node else sorted({e.record.node for e in errors}) or [DEFAULT_NODE]
    print(state_of_data(errors))
    for name in nodes:
        print(render(*spaced(chapter(name, errors))), end="")


if __name__ == "__main__":
    main()
