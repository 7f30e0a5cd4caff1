"""A model of four blocks and two experts, small enough to read its programs."""

from types import SimpleNamespace
from typing import Any

from offsim.program.build import build
from offsim.program.commands import StreamProgram
from offsim.scenario.architectures import ARCHITECTURES
from offsim.scenario.load import load_node
from offsim.scenario.model import BlockList, Model
from offsim.scenario.operations import parameter_count
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario, check
from offsim.scenario.workload import Workload

SIZES: dict[str, Any] = {"hidden": 64, "heads": 4, "head_dim": 16, "ffn": 256}


def tiny_model(blocks: int = 4, experts: int = 2) -> Model:
    """Wan blocks of width 64; the expert changes in the middle of the schedule."""
    shape = SimpleNamespace(**SIZES, text_hidden=None, text_ffn=None, extra={})
    parameters = parameter_count(ARCHITECTURES["wan"](shape))
    block_list = BlockList("blocks", blocks, "wan", parameters, **SIZES, tensors=27)
    return Model(
        "tiny",
        "A tiny Wan",
        (block_list,),
        other_parameters=1000,
        source="made up",
        experts=experts,
        boundary_ratio=0.5,
    )


def tiny_scenario(policy: Policy, **workload: Any) -> Scenario:
    """Four steps, two with each expert, of one forward each unless `workload` says otherwise."""
    work = Workload(**({"tokens": 512, "steps": 4, "cfg": "none"} | workload))
    scenario = Scenario(tiny_model(), work, load_node("h100-sxm-x8"), policy)
    check(scenario)
    return scenario


def tiny_program(policy: Policy, **workload: Any) -> StreamProgram:
    return build(tiny_scenario(policy, **workload))
