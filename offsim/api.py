"""The front door: what `import offsim` offers. Each function does what the verb of the command line does.

Bad input raises ScenarioError, with the line that the command line would print. Results have the names of `offsim
metrics`, in `to_dict()` as in the columns of `frame()`; pandas is imported when a frame is asked for.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from offsim.program.load import ScenarioSource, load_scenario
from offsim.scenario.faults import ScenarioError
from offsim.scenario.wording import cut, one_line
from offsim.signals import INTERRUPTED

if TYPE_CHECKING:
    from pandas import DataFrame

    from offsim.results.metrics import Value
    from offsim.results.predict import Prediction
    from offsim.sweep.best.run import Answer
    from offsim.sweep.grid import GridSource
    from offsim.sweep.run import Swept

REPR_WIDTH = 110
"""Characters of a line of a repr."""
SHOWN = (
    *("total_s", "total_low_s", "total_high_s", "lower_bound_s", "steady_step_s", "switch_step_s"),
    *("peak_allocated_GiB", "peak_node_host_GiB", "fits", "oom_where", "oom_shortfall_GiB", "calibrated"),
)
"""Metrics in the repr of a run."""


@dataclass(frozen=True, repr=False)
class RunResult:
    """What `offsim run` says of a scenario."""

    prediction: "Prediction"
    """Everything behind it: program, timeline, steps, in seconds and bytes."""

    @property
    def metrics(self) -> "dict[str, Value]":
        """Every metric of the prediction as a whole, by name: `metrics["total_s"]`, `metrics["peak_allocated_GiB"]`."""
        from offsim.results.metrics import metrics_of

        return metrics_of(self.prediction)

    def to_dict(self) -> dict[str, Any]:
        """What `offsim run --json` prints, as plain data."""
        from offsim.results.document import run_document

        return run_document(self.prediction)

    def frame(self) -> "DataFrame":
        """The denoising steps: a row each, with its duration, losses and traffic as columns."""
        from offsim.results.frame import frame_of
        from offsim.results.metrics import STEP_METRICS, timed_steps

        rows = ([metric.of(step) for metric in STEP_METRICS] for step in timed_steps(self.prediction))
        return frame_of(rows, {metric.name: metric.kind for metric in STEP_METRICS})

    def report(self) -> str:
        """What `offsim run` prints."""
        from offsim.results.layout import render
        from offsim.results.tables import prediction_report

        return render(*prediction_report(self.prediction))

    def __repr__(self) -> str:
        scenario, found = self.prediction.scenario, self.metrics
        lines = [f"{name:<20} {_short(found[name])}" for name in SHOWN if found[name] is not None]
        return _lines(f"RunResult of {scenario.name or self.prediction.program.name}", lines)


@dataclass(frozen=True, repr=False)
class SweepResult:
    """What `offsim sweep` says of a grid."""

    swept: "Swept"

    @property
    def folder(self) -> Path:
        """Where the rows are stored."""
        return self.swept.folder

    @property
    def stopped(self) -> str:
        """Why rows are missing, or what failed; empty if every combination has its row."""
        return self.swept.outcome.stopped

    def to_dict(self) -> dict[str, Any]:
        """The grid, every row by the names of its columns, and the sentences of the answer, as plain data."""
        from offsim.results.document import SCHEMA_VERSION

        names, grid = [column.name for column in self.swept.columns], self.swept.grid
        return {
            "schema_version": SCHEMA_VERSION,
            "grid": grid.name,
            "grid_hash": grid.hash,
            "folder": str(self.folder),
            "combinations": len(grid.combinations),
            "stopped": self.stopped,
            "rows": [dict(zip(names, cells, strict=True)) for cells in self.swept.cells()],
            "findings": self.swept.findings(),
        }

    def frame(self) -> "DataFrame":
        """The rows that finished, in the order of the grid: the columns of results.csv."""
        from offsim.results.frame import frame_of

        return frame_of(self.swept.cells(), {column.name: column.kind for column in self.swept.columns})

    def report(self) -> str:
        """What `offsim sweep` prints."""
        return self.swept.answer(REPR_WIDTH)

    def __repr__(self) -> str:
        grid, results = self.swept.grid, self.swept.results
        kinds = Counter(result.row.status for result in results)
        listed = ", ".join(f"{count} {status}" for status, count in kinds.items())
        head = f"SweepResult of {grid.name}: {len(results)} of {len(grid.combinations)} combinations, {listed}"
        notes = [f"stopped: {self.stopped}"] if self.stopped else []
        return _lines(head, [f"in {self.folder}", *notes, *self.swept.findings()])


@dataclass(frozen=True, repr=False)
class BestResult:
    """What `offsim best` says of a scenario."""

    answer: "Answer"
    """Everything behind it: candidates and predictions, in seconds and bytes."""

    def to_dict(self) -> dict[str, Any]:
        """What `offsim best --json` prints, as plain data."""
        from offsim.sweep.best.plain import best_document

        return best_document(self.answer)

    def frame(self) -> "DataFrame":
        """The best of each policy, the best first: a row each, with the policy and every metric as columns."""
        from offsim.results.frame import frame_of
        from offsim.sweep.best.plain import CHOICE_KINDS

        return frame_of(([choice[name] for name in CHOICE_KINDS] for choice in self.to_dict()["best"]), CHOICE_KINDS)

    def report(self) -> str:
        """What `offsim best` prints."""
        from offsim.results.layout import render
        from offsim.sweep.best.answer import best_report

        return render(*best_report(self.answer))

    def __repr__(self) -> str:
        found = self.to_dict()
        scenario = found["scenario"]
        lines = [
            f"{number}  {choice['total_s']:.6g} s  {choice['peak_allocated_GiB']:.2f} GiB  {choice['policy_words']}"
            for number, choice in enumerate(found["best"], 1)
        ]
        counted = f"{found['candidates']} candidates, {found['simulated']} simulated"
        return _lines(f"BestResult of {scenario['name'] or scenario['model']}: {counted}", lines or ["none fits"])


def predict_scenario(scenario: ScenarioSource) -> RunResult:
    """Simulate a scenario, as `offsim run` does: step times, memory, where the time went and why.

    `scenario` is a catalogue name, a .toml file, a mapping that says what such a file would, or a Scenario.
    Raises ScenarioError.
    """
    from offsim.results.predict import predict

    return RunResult(predict(load_scenario(scenario)))


def run_sweep(
    grid: "GridSource | None" = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    resume: bool = False,
    engine: str = "local",
    quiet: bool = True,
) -> SweepResult:
    """Simulate every scenario of a grid, as `offsim sweep` does, and store its rows in a folder.

    `grid` is a catalogue name, a .toml file or a mapping that says what such a file would; by default, the default
    grid. The other arguments are the options of the command line: by default a new folder in offsim-results/ and a
    process per core. What is finished when it is interrupted is stored, and `resume` goes on from there. Raises
    ScenarioError; a combination that fails is a row with its error, and `stopped` says so.
    """
    from offsim.sweep.grid import load_grid
    from offsim.sweep.run import DEFAULT_GRID, executor_of, sweep_grid

    loaded = load_grid(DEFAULT_GRID if grid is None else grid)
    folder = None if out is None else Path(out)
    with executor_of(engine, workers) as run:
        swept = sweep_grid(loaded, run, folder, resume=resume, quiet=quiet)
    if swept.outcome.exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    if not swept.results:
        raise ScenarioError(f"nothing finished: {swept.outcome.stopped}")
    return SweepResult(swept)


def find_best_policies(scenario: ScenarioSource, vram_gib: float | None = None, *, quiet: bool = True) -> BestResult:
    """Search all policies and options for a scenario, as `offsim best` does: the fastest that fit in the memory.

    `scenario` is a catalogue name, a .toml file, a mapping that says what such a file would, or a Scenario; its own
    policy is what the others are compared with. `vram_gib`: GiB per GPU, by default what the node has. Raises
    ScenarioError.
    """
    from offsim.sweep.best.run import find_best

    # It takes whatever `load_scenario` takes.
    return BestResult(find_best(cast(str, scenario), vram_gib, quiet=quiet))


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _lines(head: str, lines: Iterable[str]) -> str:
    """A head and lines below it, each cut to what a terminal shows."""
    return "\n  ".join(cut(one_line(line), REPR_WIDTH) for line in (f"<{head}", *lines)) + ">"
