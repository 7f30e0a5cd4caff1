"""Collectives beside copies: what a node's profile predicts of both rates, beside what was measured.

    python -m calibration.validate.pairs calibration/nodes/h100-x2-e-host-memory

The probes' own programs run in the engine on the profile. Only back-to-back pairs on all ranks are compared; those of
copy-collective are what the profile was fitted to, those of copy-collective-sizes no fit reads. It scores nothing.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.text import Text

from calibration.probes import PROBES
from calibration.samples.sample_file import ProbeSample, read_samples
from calibration.samples.script import run_script
from offsim.results.layout import Renderable, new_table, render, spaced
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_node

from .records import profile_of
from .simulated_bench import SimulatedBench

PAIRED = {probe.key: probe for probe in PROBES if probe.key.startswith("copy-collective")}
READ = ("alone", "beside", "copy_rate")
"""Readings that are compared: seconds of a collective without and with copies, and the copies' rate."""


class PairComparison(NamedTuple):
    """A collective beside copies: medians of what was measured, and what is predicted."""

    sample: ProbeSample
    measured: tuple[float, float, float]
    predicted: tuple[float, float, float]

    def errors(self) -> tuple[float, float, float]:
        """Relative errors of the collective's rate alone and beside the copies, and of the copies' rate."""
        (alone, beside, copies), (real_alone, real_beside, real_copies) = self.predicted, self.measured
        return real_alone / alone - 1, real_beside / beside - 1, copies / real_copies - 1


def compared_pairs(folder: Path) -> Iterator[PairComparison]:
    """Every pair of the folder's samples, predicted with its profile."""
    paths = sorted(folder.glob("samples*.jsonl"))
    if not paths:
        raise ScenarioError(f"{folder}: no samples*.jsonl there; give the folder of a calibration")
    bench = SimulatedBench(load_node(str(profile_of(folder.resolve()))))
    for sample in read_samples(paths)[1]:
        if sample.probe in PAIRED and _compared(sample):
            predicted = PAIRED[sample.probe].measure(bench, sample.config, 1)
            yield PairComparison(sample, _medians(sample.readings), _medians(predicted))


def _compared(sample: ProbeSample) -> bool:
    together = sample.config["only_rank"] == -1 and sample.config["every"] == 0
    return together and bool(sample.readings["beside"])


def _medians(readings: dict[str, list[float]]) -> tuple[float, float, float]:
    alone, beside, copies = (median(readings[name]) for name in READ)
    return alone, beside, copies


def pair_tables(folder: Path) -> list[Renderable]:
    """One table per probe, and a line that sums up the pairs that no fit reads."""
    found = list(compared_pairs(folder))
    if not found:
        raise ScenarioError(
            f"{folder}: no collectives beside copies there; calibrate a node of several GPUs with --full"
        )
    by_probe = {key: [pair for pair in found if pair.sample.probe == key] for key in PAIRED}
    shown: list[Renderable] = [_table(folder, key, chosen) for key, chosen in by_probe.items() if chosen]
    errors = [abs(e) for p in found if p.sample.probe == "copy-collective-sizes" for e in p.errors()[1:]]
    if errors:
        worst, within = max(errors), sum(error <= 0.05 for error in errors)
        shares = f"median error {100 * median(errors):.1f} %, worst {100 * worst:.1f} %, {within} within 5 %"
        shown.append(Text(f"{len(errors)} rates that no fit reads: {shares}"))
    return shown


def _table(folder: Path, key: str, found: list[PairComparison]) -> Renderable:
    names = ("alone", "beside", "copies")
    columns = [f"{name} {what}" for name in names for what in ("GB/s", "error")]
    table = new_table(f"{folder.name}: {PAIRED[key].title}, measured", "collective", "MB", "copies", *columns)
    order = ("kind", "direction", "bytes")
    for pair in sorted(found, key=lambda p: tuple(p.sample.config[name] for name in order)):
        kind, direction, bytes_ = (pair.sample.config[name] for name in order)
        alone, beside, copies = pair.measured
        rates = (float(bytes_) / alone, float(bytes_) / beside, copies)
        cells = [
            cell for rate, e in zip(rates, pair.errors(), strict=True) for cell in (f"{rate / 1e9:.1f}", _error(e))
        ]
        table.add_row(str(kind), f"{float(bytes_) / 1e6:g}", str(direction), *cells)
    return table


def _error(error: float) -> str:
    return f"{100 * error:+.1f} %"


def main() -> None:
    """Print the tables of every folder that is named."""
    if not sys.argv[1:] or sys.argv[1].startswith("-"):
        print(__doc__)
        return
    for name in sys.argv[1:]:
        print(render(*spaced(pair_tables(Path(name)))), end="")


if __name__ == "__main__":
    run_script(main)
