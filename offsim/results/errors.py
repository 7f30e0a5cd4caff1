"""How wide a prediction's interval is: what is not known of the node, and how far such predictions were from replays.

The errors are those of calibrated nodes with one and two GPUs (errors.toml). Values that were not measured on the node
in question can move a prediction further, and more GPUs were never compared; results say so.
"""

import tomllib
from functools import cache
from importlib.resources import files

from offsim.program.commands import Copy, StreamProgram
from offsim.program.pages import page_of
from offsim.program.passages import coarse
from offsim.scenario.scenario import Scenario

from .predict import Prediction

ERRORS = "errors.toml"


def total_with_error(prediction: Prediction) -> tuple[float, float]:
    """Between which denoising times [s] 95 % of such runs would be; the inputs' interval if none was ever compared."""
    low, high = prediction.total_interval
    kind = kind_of(prediction.scenario, prediction.program)
    error = error_of(kind) if kind else 0.0
    return low * (1 - error), high * (1 + error)


def kind_of(scenario: Scenario, program: StreamProgram) -> str:
    """What decides how well a scenario can be predicted: its copies' memory, whose code, what collectives run over.

    Empty if no run of the policy was ever compared. Policies of a library are compared with the library itself, eager
    kernels and hooks in Python included.
    """
    replayed_as = page_of(scenario.policy).replayed_as
    if replayed_as is None:
        return ""
    if _pageable(program):
        return "pageable copies"
    if replayed_as == "library":
        return "diffusers library"
    collectives = scenario.node.wiring.collectives
    if program.ranks == 1 or collectives is None:
        return "one GPU"
    return "several GPUs over NVLink" if collectives.transport == "nvlink" else "several GPUs over PCIe"


def _pageable(program: StreamProgram) -> bool:
    """Whether any step copies from or to memory that is not pinned."""
    steps = (program.sections[number].commands for number in program.numbers_of())
    distinct = {id(commands): commands for commands in steps}
    copies = (command for commands in distinct.values() for command in coarse(commands) if isinstance(command, Copy))
    return any(copy.host_memory != "pinned" for copy in copies)


def error_of(kind: str) -> float:
    """The relative error that 95 % of the replays of a kind did not exceed."""
    return _errors()[kind]


@cache
def _errors() -> dict[str, float]:
    """95th percentile of the relative errors by kind."""
    raw = tomllib.loads((files(__package__) / ERRORS).read_text(encoding="utf-8"))
    return {kind: float(table["p95"]) for kind, table in raw.items()}
