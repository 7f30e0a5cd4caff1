"""Programs of diffusers' and accelerate's offloading against the libraries themselves, call by call."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs torch: pip install -e '.[libraries]'")
pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[libraries]'")

import accelerate
import torch
from diffusers.hooks import apply_group_offloading

from calibration.live.diffusers_forwards.model import MODES, WanShape, offload
from offsim.program.build import build
from offsim.program.commands import Command, Compute, Copy, Free, HostWork, Synchronize
from offsim.program.systems.accelerate_model import AccelerateModel
from offsim.program.systems.accelerate_sequential import AccelerateSequential
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.scenario.load import load_node
from offsim.scenario.model import Embeddings
from offsim.scenario.policy import Policy
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import SIZES, library_scenario, tiny_model
from tests.unit.library_calls import COMPUTE, COPY, DEVICE, Call, Recorder, joined

FORWARDS = 3
BLOCKS = 3
SHAPE = WanShape(BLOCKS, SIZES["heads"], SIZES["head_dim"], SIZES["ffn"], text_tokens=4, text_width=32)
CASES: dict[str, Policy] = {
    "block": DiffusersGroup(),
    "block, two per group": DiffusersGroup(num_blocks_per_group=2),
    "block, stream": DiffusersGroup(stream=True),
    "block, stream, record_stream": DiffusersGroup(stream=True, record_stream=True),
    "block, stream, low_cpu_mem_usage": DiffusersGroup(stream=True, low_cpu_mem_usage=True),
    "leaf": DiffusersGroup(level="leaf"),
    "leaf, stream": DiffusersGroup(level="leaf", stream=True),
    "leaf, stream, record_stream": DiffusersGroup(level="leaf", stream=True, record_stream=True),
    "sequential": AccelerateSequential(empty_cache=1e-6),
}


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    return monkeypatch


def options(policy: Policy) -> dict[str, Any]:
    """The policy as the measuring script has it."""
    if isinstance(policy, AccelerateSequential):
        return MODES["sequential"]
    names = ("level", "stream", "record_stream", "low_cpu_mem_usage", "num_blocks_per_group")
    return {"name": "diffusers-group"} | {name: getattr(policy, name) for name in names}


def group_of(policy: Policy, name: str) -> str:
    """Which group a weight belongs to: its block's, or its module's."""
    if not isinstance(policy, DiffusersGroup) or policy.level == "leaf":
        return f"transformer.{name.rpartition('.')[0]}".rstrip(".")
    if not name.startswith("blocks."):
        return "transformer other"
    size = policy.num_blocks_per_group
    return f"transformer.blocks.{int(name.split('.')[1]) // size * size}"


def tiny_wan() -> Any:
    """The library's model in bf16, its rotary tables in fp32."""
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(**SHAPE.config()).to(torch.bfloat16).eval().requires_grad_(False)
    model.rope.float()
    return model


def inputs() -> dict[str, Any]:
    """Of a forward over twelve tokens."""
    return {
        "hidden_states": torch.randn(1, 16, 3, 4, 4, dtype=torch.bfloat16),
        "timestep": torch.tensor([5]),
        "encoder_hidden_states": torch.randn(1, 4, 32, dtype=torch.bfloat16),
        "return_dict": False,
    }


def recorded(policy: Policy, patch: pytest.MonkeyPatch) -> list[list[Call]]:
    """The library's calls in each of three forwards."""
    model = tiny_wan()
    names = [name for name, _ in (*model.named_parameters(), *model.named_buffers())]
    calls = Recorder({name: group_of(policy, name) for name in names})
    real = torch.get_device_module
    patch.setattr(torch, "get_device_module", lambda d=None: calls.backend if "cuda" in str(d) else real(d))
    patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: calls.record_stream(tensor, stream))
    patch.setattr("accelerate.utils.modeling.clear_device_cache", lambda: calls.note(Call("empty cache", "")))
    found = []
    with calls, torch.no_grad():
        calls.know(model)
        calls.watch(model)
        offload(model, options(policy), DEVICE)
        for _ in range(FORWARDS):
            calls.found.clear()
            model(**inputs())
            found.append(joined(calls.found))
    return found


def programmed(scenario: Scenario) -> list[list[Call]]:
    """The program's commands in each of its steps, in the same words."""
    program = build(scenario)
    steps = [program.sections[number].commands for number in program.numbers_of()]
    return [joined(list(_calls(commands))) for commands in steps]


def _calls(commands: Any) -> Iterator[Call]:
    for command in commands:
        yield from _call(command)


def _call(command: Command) -> Iterator[Call]:
    if isinstance(command, Copy):
        stream = COMPUTE if command.stream == COMPUTE else COPY
        sizes = (int(command.bytes), command.calls)
        yield Call(command.direction, stream, command.buffer, *sizes, command.host_memory)
    elif isinstance(command, Synchronize):
        yield Call("synchronize", COMPUTE if command.target == COMPUTE else COPY)
    elif isinstance(command, Free) and command.buffer.startswith("transformer") and "on host" not in command.buffer:
        yield Call("free", "", command.buffer, recorded=bool(command.recorded))
    elif isinstance(command, HostWork):
        yield Call("empty cache", "") if command.name == "empty cache" else Call("pin", "", command.name[4:])
    elif isinstance(command, Compute):
        yield Call("kernels", COMPUTE, command.name)


def with_kernels_of(calls: list[Call], names: dict[str, str]) -> list[Call]:
    """Kernels under the names that `names` gives them, and once in a row; without those that it doesn't name."""
    found: list[Call] = []
    for call in calls:
        if call.kind != "kernels":
            found.append(call)
        elif call.group in names:
            own = call._replace(group=names[call.group])
            if found[-1:] != [own]:
                found.append(own)
    return found


def block_names(modules: list[str]) -> dict[str, str]:
    """Of everything that runs in a block: the block."""
    return {name: ".".join(name.replace(" ", ".").split(".")[:2]) for name in modules if name.startswith("blocks.")}


@pytest.mark.parametrize("name", CASES)
def test_the_program_asks_for_what_the_library_asks_for_in_its_order(name, patched):
    policy = CASES[name]
    theirs = recorded(policy, patched)
    ours = programmed(library_scenario(policy, BLOCKS, step_end="none"))
    modules = [call.group for step in (*theirs, *ours) for call in step if call.kind == "kernels"]
    leaves = {call.group for step in theirs for call in step if call.kind == "kernels"} - {""}
    leaves -= {f"blocks.{i}" for i in range(BLOCKS)}
    by_leaf = not isinstance(policy, DiffusersGroup) or policy.level == "leaf"
    names = {leaf: leaf for leaf in leaves} if by_leaf else block_names(modules)
    for forward in range(FORWARDS):
        own, library = (with_kernels_of(calls[forward], names) for calls in (ours, theirs))
        assert own == library, f"forward {forward}"
    assert sum(call.kind == "kernels" for call in with_kernels_of(theirs[0], names)) >= BLOCKS


def test_a_call_less_or_in_another_place_is_noticed(patched):
    """The comparison can fail: another mode's program differs from the library's calls in every forward."""
    theirs = recorded(CASES["block, stream"], patched)
    ours = programmed(library_scenario(CASES["block, stream, record_stream"], BLOCKS, step_end="none"))
    names = block_names([call.group for step in (*theirs, *ours) for call in step])
    for forward in range(FORWARDS):
        assert with_kernels_of(ours[forward], names) != with_kernels_of(theirs[forward], names)


def test_components_push_each_other_out_in_accelerates_order(patched):
    """Two experts in a chain, two steps each."""
    from accelerate import cpu_offload_with_hook

    experts = {"transformer": tiny_wan(), "transformer_2": tiny_wan()}
    tensors = {name: [n for n, _ in (*m.named_parameters(), *m.named_buffers())] for name, m in experts.items()}
    calls = Recorder({f"{expert}:{name}": expert for expert, names in tensors.items() for name in names})
    patched.setattr("accelerate.hooks.clear_device_cache", lambda: None)
    theirs, hook = [], None
    with calls, torch.no_grad():
        for name, model in experts.items():
            calls.know(model, f"{name}:")
            _, hook = cpu_offload_with_hook(model, DEVICE, prev_module_hook=hook)
        for name in ("transformer", "transformer", "transformer_2", "transformer_2"):
            calls.found.clear()
            experts[name](**inputs())
            theirs.append(joined(calls.found))
    model = tiny_model(BLOCKS, 2, Embeddings(text_width=32))
    work = Workload(tokens=12, steps=4, cfg="none", step_end="none", flow_shift=1.0)
    ours = programmed(Scenario(model, work, load_node("h200-x1"), AccelerateModel()))
    assert [with_kernels_of(step, {}) for step in ours] == theirs
    assert [call.kind for call in theirs[2]] == ["D2H", "free", "H2D"]


class Stack(torch.nn.Module):
    """Blocks that do not lie at the top of a text encoder, as in transformers' T5EncoderModel."""

    def __init__(self) -> None:
        super().__init__()
        self.block = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))


class TextEncoder(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared, self.encoder = torch.nn.Embedding(8, 4), Stack()


def test_groups_of_blocks_bring_a_text_encoder_in_whole() -> None:
    encoder = TextEncoder()
    apply_group_offloading(encoder, torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1)
    hooked = {name: module for name, module in encoder.named_modules() if hasattr(module, "_diffusers_hook")}
    assert list(hooked) == [""], "no block has a group of its own"
    group = encoder._diffusers_hook.get_hook("group_offloading").group
    assert group.modules == [encoder.shared, encoder.encoder]
    assert DiffusersGroup().text_encoder == "swap"


def test_one_module_at_a_time_brings_a_text_encoder_in_by_its_modules() -> None:
    encoder = TextEncoder()
    accelerate.cpu_offload(encoder, torch.device("cpu"))
    hooked = [name for name, module in encoder.named_modules() if getattr(module, "_hf_hook", None)]
    assert {"shared", "encoder.block.0", "encoder.block.1", "encoder.block.2"} <= set(hooked)
    assert AccelerateSequential().text_encoder == "sharded"
