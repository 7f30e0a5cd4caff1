"""How wide a prediction's interval is: what is not known of the node, and how far such predictions were from replays.

The errors are those of calibrated nodes (errors.toml). Values that were not measured on the node in question can
move a prediction further; results list them.
"""

import tomllib
from functools import cache
from importlib.resources import files

from offsim.program.commands import Copy, StreamProgram, coarse

from .predict import Prediction


def total_with_error(prediction: Prediction) -> tuple[float, float]:
    """Between which denoising times [s] 95 % of such runs would be."""
    low, high = prediction.total_interval
    error = relative_error(prediction.program)
    return low * (1 - error), high * (1 + error)


def relative_error(program: StreamProgram) -> float:
    """The relative error that 95 % of the predictions of such programs keep."""
    return error_of("pageable" if _pageable(program) else "pinned")


@cache
def error_of(kind: str) -> float:
    """95th percentile of the relative errors of a kind of replays."""
    raw = tomllib.loads((files(__package__) / "errors.toml").read_text(encoding="utf-8"))
    return float(raw[kind]["p95"])


def _pageable(program: StreamProgram) -> bool:
    """Whether any step copies from or to memory that is not pinned."""
    distinct = {id(section.commands): section.commands for section in program.sections if section.step is not None}
    copies = (command for commands in distinct.values() for command in coarse(commands) if isinstance(command, Copy))
    return any(copy.host_memory != "pinned" for copy in copies)
