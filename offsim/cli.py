"""The command line: one function per verb.

Each verb returns its exit code: 0 fine, 2 bad input (one line on stderr), 1 a bug. Verbs import what they
need when they run, so `--help` and wrong flags answer at once.
"""

import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from offsim.cli_arguments import Gibibytes, WorkerCount
from offsim.cli_catalogue import FINE, emit, metrics, models, nodes, policies, scenarios, show, write, write_json
from offsim.scenario.faults import Place, ScenarioError, one_message
from offsim.scenario.wording import one_line, visible
from offsim.signals import INTERRUPTED, interrupted
from offsim.sweep.announce import announced, say

BUG, BAD_INPUT, BROKEN_PIPE = 1, 2, 141
Flag = Annotated[bool, Parameter(negative="")]
STEP_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


app = App(
    name="offsim",
    help_format="plaintext",
    help="""Predict step time and memory of diffusion transformers with weights offloaded to host memory.

Begin with these:

  offsim scenarios
  offsim run wan2.2-4xh100-pcie-layerwise
  offsim show h100-pcie
""",
)


@app.command
def run(scenario: str, /, *, json: Flag = False, trace: Path | None = None) -> int:
    """Simulate a scenario: step times, memory, where the time went and why.

    For example:
      offsim run wan2.2-4xh100-pcie-layerwise
      offsim run my-scenario.toml --trace trace.json
      offsim run flux.1-dev-rtx4090-layerwise --json

    Parameters
    ----------
    scenario
        A .toml file or a name that `offsim scenarios` lists.
    json
        Print one JSON object instead of tables; `offsim metrics` says what its names mean.
    trace
        Write a trace for Perfetto or chrome://tracing to this file.
    """
    from offsim.engine.watch import Watch
    from offsim.program.load import load_scenario
    from offsim.results.document import run_document
    from offsim.results.predict import predict
    from offsim.results.tables import prediction_report
    from offsim.results.trace import check_trace, write_trace

    if trace is not None:
        check_trace(trace)
    watch = Watch()
    with announced("simulating", lambda: watch.share):
        prediction = predict(load_scenario(scenario), watch)
    if trace is not None:
        write_trace(prediction, trace)
    if json:
        return write_json(run_document(prediction))
    emit(*prediction_report(prediction))
    return write(f"\ntrace: {trace} (open it in https://ui.perfetto.dev)\n") if trace else FINE


@app.command
def program(scenario: str, /, *, steps: str | None = None, check: Flag = False) -> int:
    """Print a scenario's stream program: the commands that every rank issues, in order.

    For example:
      offsim program wan2.2-4xh100-pcie-layerwise --steps 0,1
      offsim program my-scenario.toml --steps 17-19 --check

    Parameters
    ----------
    scenario
        A .toml file or a name that `offsim scenarios` lists.
    steps
        Only these denoising steps: numbers and ranges, as in 0,1 or 0,17-19.
    check
        Also look for reads of weights that may not have arrived, and for memory reused too early.
    """
    from offsim.program.build import build
    from offsim.program.check import problems
    from offsim.program.load import load_scenario
    from offsim.program.text import format_program

    question = load_scenario(scenario)
    chosen = None if steps is None else parse_steps(steps, question.steps)
    issued = build(question)
    write(format_program(issued, chosen))
    if not check:
        return FINE
    found = problems(issued)
    lines = [one_line(f"{problem.section}, command {problem.position}: {problem.message}") for problem in found]
    write("\n".join([f"\ncheck: {len(found)} problem{'' if len(found) == 1 else 's'}", *lines, ""]))
    return BUG if found else FINE


def parse_steps(text: str, count: int) -> list[int]:
    """Step numbers of a list like `0,17-19`; raises ScenarioError.

    >>> parse_steps("0,17-19", 27)
    [0, 17, 18, 19]
    """
    chosen: dict[int, None] = {}
    for part in text.split(","):
        ends = STEP_RANGE.fullmatch(part.strip())
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last:
            raise Place(None, "--steps").fault("expected numbers and ranges, as in 0,1 or 0,17-19", text)
        if last >= count:
            raise Place(None, "--steps").fault(f"the scenario has steps 0 to {count - 1}", text)
        chosen |= dict.fromkeys(range(first, last + 1))
    return list(chosen)


for listing in (models, nodes, policies, scenarios, metrics, show):
    app.command(listing)


@app.command
def sweep(
    grid: str | None = None,
    /,
    *,
    out: Path | None = None,
    workers: WorkerCount | None = None,
    quiet: Flag = False,
    resume: Flag = False,
    engine: str = "local",
) -> int:
    """Simulate every scenario of a grid, in parallel; every finished one is stored at once.

    For example:
      offsim sweep
      offsim sweep my-grid.toml --out results --resume     # after a Ctrl-C, a crash or a kill
      offsim sweep my-grid.toml --engine dask://10.0.0.1:8786

    Parameters
    ----------
    grid
        A .toml file that says which values to combine; without it, the default grid.
    out
        Directory of the results.
    workers
        Processes; default: one per core.
    quiet
        No progress.
    resume
        Go on with this grid's sweep in --out (default: the latest): nothing done twice, what failed is tried again.
    engine
        local, or dask://HOST:PORT of a dask.distributed scheduler whose workers have offsim (extra: cluster).
    """
    from offsim.sweep.run import sweep_command

    return sweep_command(grid, out, workers, quiet, resume, engine)


@app.command
def best(scenario: str, /, *, vram: Gibibytes | None = None, json: Flag = False, quiet: Flag = False) -> int:
    """Search all policies and options for a scenario: the fastest that fit, and time against memory.

    For example:
      offsim best wan2.2-4xh100-pcie-layerwise
      offsim best wan2.2-4xh100-pcie-layerwise --vram 24
      offsim best my-scenario.toml --json

    Parameters
    ----------
    scenario
        A .toml file or a name that `offsim scenarios` lists; its own policy is what the others are compared with.
    vram
        GiB per GPU; default: what the node has.
    json
        Print one JSON object instead of tables; `offsim metrics` says what its names mean.
    quiet
        No progress.
    """
    from offsim.sweep.best.answer import best_report
    from offsim.sweep.best.plain import best_document
    from offsim.sweep.best.run import find_best

    answer = find_best(scenario, vram, quiet=quiet)
    if json:
        return write_json(best_document(answer))
    return emit(*best_report(answer))


@app.command
def export(folder: Path, /, *, to: Path) -> int:
    """Write the rows of a sweep, finished or not, to a CSV or Parquet file; `offsim metrics` explains its columns.

    For example:
      offsim export offsim-results/seeds-5b1f0c3a --to rows.parquet
      offsim export results --to rows.csv

    Parameters
    ----------
    folder
        Where `offsim sweep` stored its rows.
    to
        A new file that ends in .csv or .parquet (extra: parquet).
    """
    from offsim.sweep.export import export_command

    return write(export_command(folder, to))


# What these verbs need is imported when they run.
for verb in ("calibrate", "replay", "validate"):
    app.command(getattr(import_module("calibration.verbs"), verb), name=verb)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (default: the process's own) and exit with its code."""
    sys.exit(exit_code(sys.argv[1:] if arguments is None else arguments))


def exit_code(arguments: Sequence[str]) -> int:
    """Run a command line; the code to exit with."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a terminal's encoding lacks
    try:
        code = dispatch(list(arguments))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except (BrokenPipeError, SystemExit):  # the latter is how rich reports the former
        code = BROKEN_PIPE
    _drop_unwritten()
    return code


def _drop_unwritten() -> None:
    """Keep the interpreter from complaining at its end about output that nobody takes."""
    if sys.stdout is None:  # closed before the start
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments: list[str]) -> int:
    """Parse, run, and turn every error into its exit code and message."""
    try:
        verb, bound, _ = app.parse_args(arguments, print_error=False, exit_on_error=False)
        code = verb(*bound.args, **bound.kwargs) or FINE
        write("")  # what cannot be written is told as long as somebody can be told
    except BrokenPipeError:
        raise
    except (CycloptsError, ScenarioError, OSError) as error:
        say(_without_name(error) + one_message(error))
        return BAD_INPUT
    except Exception as error:
        return _report_bug(error)
    return code


def _without_name(error: Exception) -> str:
    """What fails if that is standard output, whoever wrote to it: such an error names no file."""
    if isinstance(error, OSError) and not error.filename:
        try:
            write("")
        except OSError:
            return "standard output: "
    return ""


def _report_bug(error: Exception) -> int:
    """What should never happen; a program that cannot finish says why itself, all else by its traceback."""
    from offsim.engine.simulate import DeadlockError

    if interrupted():
        return INTERRUPTED
    if isinstance(error, DeadlockError):
        say(visible(str(error)))
        return BUG
    traceback.print_exception(error)
    say("this is a bug; please report it with the lines above and the scenario")
    return BUG
