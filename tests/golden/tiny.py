"""A model of four blocks and two experts, small enough to read its programs."""

from types import SimpleNamespace
from typing import Any

from offsim.program.build import build
from offsim.program.commands import StreamProgram
from offsim.program.load import check_scenario
from offsim.scenario.architectures import ARCHITECTURES, outside_operations
from offsim.scenario.load import load_node
from offsim.scenario.model import BlockList, Embeddings, Model
from offsim.scenario.operations import parameter_count
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload

SIZES: dict[str, Any] = {"hidden": 64, "heads": 4, "head_dim": 16, "ffn": 256}


def tiny_model(blocks: int = 4, experts: int = 2, embeddings: Embeddings | None = None) -> Model:
    """Wan blocks of width 64; the expert changes in the middle of the schedule."""
    shape = SimpleNamespace(**SIZES, text_hidden=None, text_ffn=None, extra={})
    parameters = parameter_count(ARCHITECTURES["wan"](shape))
    block_list = BlockList("blocks", blocks, "wan", parameters, **SIZES, tensors=27)
    return Model(
        "tiny",
        "A tiny Wan",
        (block_list,),
        other_parameters=1000 if embeddings is None else outside_parameters(block_list, embeddings),
        embeddings=embeddings,
        source="made up",
        experts=experts,
        boundary_ratio=0.5 if experts == 2 else None,
    )


def outside_parameters(blocks: BlockList, embeddings: Embeddings) -> int:
    """Of a model with these blocks."""
    before, after = outside_operations(blocks, embeddings)
    return parameter_count((*before, *after))


def library_scenario(policy: Policy, blocks: int = 2, **workload: Any) -> Scenario:
    """Three steps of one expert, with the diffusers library's kernels and modules."""
    work = Workload(**({"tokens": 512, "steps": 3, "cfg": "none", "kernels": "eager"} | workload))
    model = tiny_model(blocks, 1, Embeddings(text_width=32))
    scenario = Scenario(model, work, load_node("h100-sxm-x8"), policy)
    check_scenario(scenario)
    return scenario


def tiny_scenario(policy: Policy, **workload: Any) -> Scenario:
    """Four steps, two with each expert, of one forward each unless `workload` says otherwise."""
    work = Workload(**({"tokens": 512, "steps": 4, "cfg": "none"} | workload))
    scenario = Scenario(tiny_model(), work, load_node("h100-sxm-x8"), policy)
    check_scenario(scenario)
    return scenario


def tiny_program(policy: Policy, **workload: Any) -> StreamProgram:
    return build(tiny_scenario(policy, **workload))
