"""One module per real system's policy."""

from offsim.scenario import policy as parameters
from offsim.scenario.scenario import Scenario

from .accelerate import ModelOffloadProgram, SequentialProgram
from .diffusers_group import DiffusersGroupProgram
from .fsdp import FSDPProgram
from .full_model import FullModelProgram
from .hooks import PolicyProgram
from .resident import ResidentProgram
from .scheduled_layerwise import ScheduledLayerwiseProgram
from .sglang_layerwise import LayerwiseProgram

PROGRAMS: dict[type, type[PolicyProgram]] = {
    parameters.Resident: ResidentProgram,
    parameters.SGLangLayerwise: LayerwiseProgram,
    parameters.FullModel: FullModelProgram,
    parameters.FSDP: FSDPProgram,
    parameters.ScheduledLayerwise: ScheduledLayerwiseProgram,
    parameters.DiffusersGroup: DiffusersGroupProgram,
    parameters.AccelerateModel: ModelOffloadProgram,
    parameters.AccelerateSequential: SequentialProgram,
}


def policy_program(scenario: Scenario) -> PolicyProgram:
    """The hooks of the scenario's policy, in their initial state."""
    return PROGRAMS[type(scenario.policy)](scenario)
