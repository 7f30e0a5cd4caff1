"""Fit the samples of a node's folder again and write its profile.

python -m calibration.fit calibration/nodes/h200-x1-b
"""

import sys
from pathlib import Path

from calibration.samples.script import run_script
from offsim.results.layout import render
from offsim.scenario.faults import ScenarioError

from .profile import fit_profile
from .summary import summary_table


def main() -> None:
    """Fit every folder that the command line names."""
    for name in sys.argv[1:]:
        fit_folder(Path(name))


def fit_folder(folder: Path) -> None:
    """Fit all samples*.jsonl of a folder, write its profile.toml and print the summary."""
    paths = sorted(folder.glob("samples*.jsonl"))
    if not paths:
        raise ScenarioError(f"{folder}: no samples*.jsonl there; give the folder of a calibration")
    fitted = fit_profile(paths, folder.name)
    (folder / "profile.toml").write_text(fitted.toml, encoding="utf-8")
    print(render(summary_table(fitted.summary)), end="")


if __name__ == "__main__":
    run_script(main)
