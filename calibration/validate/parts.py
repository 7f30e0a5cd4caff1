"""Where an error of a step comes from: each command of a block, predicted beside measured.

    python -m calibration.validate.parts calibration/nodes/h100-x2-c-nvlink --case 16384 --run policy

reads the folder's parts*.jsonl (see calibration.live.replays). Of a collective the part that is not waiting for other
ranks is compared. It scores nothing.
"""

import argparse
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from calibration.replays.cases import ReplayCase, replay_case
from calibration.replays.parts import BlockPart, parts_of
from calibration.samples.json_lines import lines_in
from calibration.samples.script import run_script
from offsim.results.layout import Renderable, new_table, render, spaced
from offsim.results.predict import predict
from offsim.scenario.faults import ScenarioError
from offsim.scenario.scenario import Scenario

from .records import profile_of

SETTLED_STEPS = 6
"""How many steps from the end count in a prediction of parts."""


def predicted_parts(scenario: Scenario) -> list[BlockPart]:
    """The commands of the last steps' blocks, with everything simulated."""
    whole = structs.replace(scenario.simulation, fold=False, steady_state=False, block_period=False)
    timeline = predict(structs.replace(scenario, simulation=whole)).timeline
    ends = sorted(window.compute_end for window in timeline.windows if window.rank == 0)
    return parts_of(timeline, ends[-SETTLED_STEPS - 1])


def part_tables(folder: Path, wanted: str, run: str) -> list[Renderable]:
    """One table per case whose name contains `wanted`."""
    parts = list(lines_in(folder, "parts*.jsonl"))
    if not parts:
        raise ScenarioError(
            f"{folder}: no parts*.jsonl there; record them with python -m calibration.live.replays ... --parts FILE"
        )
    cases = {line["case"]: line["scenario"] for line in lines_in(folder, "replays*.jsonl") if "scenario" in line}
    chosen = [line for line in parts if wanted in line["case"]]
    if not chosen:
        raise ScenarioError(f"{folder}: no case there has {wanted!r} in its name")
    return [_table(replay_case(cases[line["case"]]), folder, line, run) for line in chosen]


def _table(case: ReplayCase, folder: Path, line: dict[str, Any], run: str) -> Renderable:
    profile = str(profile_of(folder.resolve()))
    predicted = predicted_parts(case.resident(profile) if run == "resident" else case.scenario(profile))
    measured = {part.key: part for part in msgspec.convert(line[run]["parts"], list[BlockPart])}
    title = f"{case.name}, {run}: {_states(line[run]['states'])}"
    table = new_table(title, "command", "a run has", "predicted ms", "measured ms", "error", "ms of all", "waits ms")
    for part in predicted:
        found = measured.get(part.key)
        if found is not None:
            table.add_row(*_cells(part, found))
    return table


def _cells(part: BlockPart, found: BlockPart) -> list[str]:
    """A collective's exchange is its shortest span; a kernel's time is the slower rank's."""
    exchange = part.kind == "collective"
    own, real = (part.shortest, found.shortest) if exchange else (max(part.seconds), max(found.seconds))
    waits = max(found.seconds) - found.shortest if exchange else 0.0
    name = f"{part.kind} {part.name} {part.number or ''}".rstrip()
    times = [f"{1e3 * own:.3f}", f"{1e3 * real:.3f}", f"{100 * (own / real - 1):+.1f} %", f"{1e3 * (own - real):+.3f}"]
    return [name, str(found.count), *times, f"{1e3 * waits:.3f}" if waits else ""]


def _states(states: list[dict[str, float]]) -> str:
    units = {"sm_clock_MHz": "MHz", "power_W": "W", "temperature_C": "C"}
    return ", ".join(" ".join(f"{state[key]:.0f} {unit}" for key, unit in units.items()) for state in states if state)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", default="", help="part of the names of cases")
    parser.add_argument("--run", default="resident", choices=["resident", "policy"])
    options = parser.parse_args()
    print(render(*spaced(part_tables(options.folder, options.case, options.run))), end="")


if __name__ == "__main__":
    run_script(main)
