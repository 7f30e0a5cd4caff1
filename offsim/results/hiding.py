"""Whether copies hide behind kernels by the first-order model, beside what the simulation says of the same run."""

from offsim.program.commands import Copy
from offsim.program.first_order import HidingSize, hiding_size
from offsim.program.pages import page_of

from .predict import Prediction

ASIDE = "exchanges and contention aside"


def copies_hide(prediction: Prediction) -> HidingSize | None:
    """The size from which on a steady step's copies hide; None where no blocks are streamed from pinned memory."""
    scenario = prediction.scenario
    step = prediction.steps[prediction.steady_index]
    if page_of(scenario.policy).blocks_ahead(scenario, scenario.policy) is None or not step.h2d_bytes:
        return None
    commands = prediction.program.sections[prediction.program.step_number(step.index)].commands
    if any(isinstance(command, Copy) and command.host_memory != "pinned" for command in commands):
        return None
    return hiding_size(scenario, step.h2d_bytes / scenario.workload.forwards(scenario.model))


def hiding_words(size: HidingSize) -> str:
    """The size in a sentence.

    >>> hiding_words(HidingSize("frames", 81, 86))
    'hide behind kernels from 86 frames on, exchanges and contention aside; here 81'
    >>> hiding_words(HidingSize("tokens", 4096, None))
    'hide behind kernels at no length, exchanges and contention aside; here 4,096 tokens'
    """
    if size.first is None:
        return f"hide behind kernels at no length, {ASIDE}; here {size.here:,} {size.unit}"
    if size.first == 1:
        return f"hide behind kernels at any length, {ASIDE}; here {size.here:,} {size.unit}"
    return f"hide behind kernels from {size.first:,} {size.unit} on, {ASIDE}; here {size.here:,}"
