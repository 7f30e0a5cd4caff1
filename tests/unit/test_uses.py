"""Sections are uses: encoding, decoding and switches are timed, bounded and added up as denoising steps are."""

import pytest
from msgspec.structs import replace

from offsim.engine.bounds import compute_bound, lower_bound
from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.commands import Command, HostWork, Section, StreamProgram, Synchronize
from offsim.program.groups import sequence_groups
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.text import format_program
from offsim.program.uses import LOADING, Use, total_seconds
from offsim.results.predict import predict, shortcuts
from offsim.results.steps import ledger, step_rows, use_rows, waits
from offsim.scenario.load import load_model
from offsim.scenario.scenario import Scenario, Simulation
from offsim.scenario.wiring import Switch
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_program
from tests.strategies import quantity
from tests.unit.test_engine import NODE, h2d, kernels, slowed

END = Synchronize("stream", "compute")
ENCODE: tuple[Command, ...] = (h2d("compute"), kernels(2), END)
STEP: tuple[Command, ...] = (kernels(3), END)
DECODE: tuple[Command, ...] = (kernels(5), END)


def request(*uses: tuple[Use, tuple[Command, ...]]) -> StreamProgram:
    """A program of one rank: its weights are there, then these uses."""
    sections = [Section(f"{use.kind} {i}", use, commands) for i, (use, commands) in enumerate(uses)]
    return StreamProgram("by hand", (Section("load", LOADING, ()), *sections), sequence_groups((0,)))


def asked(**simulation: bool) -> Scenario:
    """What the engine wants besides a program."""
    work, model = Workload(gpus=1, tokens=64), load_model("wan2.2-t2v-a14b")
    return Scenario(model, work, NODE, Resident(), simulation=Simulation(**simulation))


WHOLE = request(
    (Use("encode", "text encoder"), ENCODE),
    (Use("denoise", "transformer", step=0), STEP),
    (Use("switch", "transformer_2", step=1), STEP),
    (Use("decode", "VAE"), DECODE),
)


def test_a_program_names_what_its_sections_are_for():
    program = tiny_program(SGLangLayerwise())
    uses = [section.use for section in program.sections]
    assert uses[:2] == [LOADING, Use("encode")]
    assert [(use.kind, use.component, use.request, use.step) for use in uses[2:-1]] == [
        ("denoise", "transformer", 0, 0),
        ("denoise", "transformer", 0, 1),
        ("switch", "transformer_2", 0, 2),
        ("denoise", "transformer_2", 0, 3),
    ]
    assert [use.is_step for use in uses] == [False, False, True, True, True, True, False]
    assert program.step_number(2) == 4


def test_only_the_first_step_compiles():
    scenario = replace(asked(), workload=Workload(gpus=1, tokens=64, steps=4, compile=1.5))
    steps = [section for section in build(scenario).sections if section.use.is_step]
    compiling = [step.use.step for step in steps if HostWork("compile", 1.5) in step.commands]
    assert compiling == [0]


def test_a_steps_duration_is_its_slowest_ranks():
    """GPU 1 copies its 100 bytes over an uplink of half the rate: 2 s, where GPU 0 takes 1."""
    node = NODE.rewired(switches=(Switch(gpus=(1,), h2d=quantity(50.0), d2h=quantity(50.0)),))
    section = Section("step 0", Use("denoise", step=0), (h2d("compute"), END))
    program = StreamProgram("by hand", (section,), sequence_groups((0, 1)))
    scenario = replace(asked(), node=node, workload=Workload(gpus=2, tokens=64))
    [row] = step_rows(program, simulate(scenario, program))
    assert row.duration == pytest.approx(2)


def test_components_are_called_as_the_model_calls_them():
    _, encode, *_, decode = (section.use for section in build(asked()).sections)
    assert (encode.component, decode.component) == ("UMT5-XXL encoder", "Wan 2.1 VAE")


def test_every_use_has_a_row_like_a_step():
    timeline = simulate(asked(), WHOLE)
    encode, decode = use_rows(WHOLE, timeline, ("encode", "decode"))
    assert (encode.use.component, encode.duration, encode.h2d_bytes) == ("text encoder", 3, 100)
    assert (encode.losses.exposed_copy, encode.losses.compute) == (1, 2)
    assert (decode.use.component, decode.duration, decode.losses.compute) == ("VAE", 5, 5)
    assert [row.index for row in step_rows(WHOLE, timeline)] == [0, 1]
    assert waits(timeline, 1) == {"H2D: compute": 1}


def test_totals_are_sums_over_the_uses_of_some_kinds():
    rows = use_rows(WHOLE, simulate(asked(), WHOLE), ("load", "encode", "denoise", "switch", "decode"))
    assert total_seconds(rows) == 6
    assert total_seconds(rows, {"switch"}) == 3
    assert total_seconds(rows, {"encode", "decode"}) == 8


def test_every_use_is_bounded_like_a_step():
    assert lower_bound(asked(), WHOLE) == 6
    assert lower_bound(asked(), WHOLE, kinds={"encode"}) == 3
    assert lower_bound(asked(), WHOLE, kinds={"encode", "denoise", "switch", "decode"}) == 14
    assert compute_bound(asked(), WHOLE, {"decode"}) == 5
    assert lower_bound(asked(), WHOLE, kinds={"load"}) == 0


def test_the_ledger_charges_what_any_use_lost():
    """Kernels of an encoding are twice as slow beside a copy of 1 s: 0.5 s are lost."""
    program = request((Use("encode", "text encoder"), (h2d("copy"), kernels(2), END)), (Use("denoise", step=0), STEP))
    scenario = replace(asked(), node=slowed("elementwise", "H2D", 1.0))
    [charge] = ledger(program, simulate(scenario, program), {"encode"})
    assert (charge.use.component, charge.step, charge.culprit) == ("text encoder", None, "H2D interference")
    assert charge.seconds == pytest.approx(0.5)
    assert ledger(program, simulate(scenario, program)) == []


def test_uses_that_repeat_are_left_out_like_steps_and_not_counted_as_steps():
    """Six prompts encoded alike, then four equal steps."""
    uses = [(Use("encode", "text encoder", i), ENCODE) for i in range(6)]
    program = request(*uses, *[(Use("denoise", step=i), STEP) for i in range(4)])
    timeline, full = simulate(asked(), program), simulate(asked(steady_state=False, block_period=False), program)
    kinds = ("encode", "denoise")
    assert use_rows(program, timeline, kinds) == use_rows(program, full, kinds)
    assert sum(repeat.times for repeat in timeline.repeats) > 4
    prediction = predict(replace(asked(), workload=Workload(gpus=1, tokens=64, steps=4)))
    skipped = shortcuts(prediction._replace(program=program, timeline=timeline, steps=step_rows(program, timeline)))
    assert 0 < skipped["skipped_steps"] < 4


def test_sections_that_repeat_are_written_once_whatever_they_are_for():
    uses = [(Use("encode"), ENCODE), (Use("encode"), ENCODE), (Use("encode"), ENCODE)]
    text = format_program(request(*uses, (Use("denoise", step=0), STEP)), compact=True)
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[1:] == ["load", "encode 0", "encode 1, encode 2: as encode 0", "denoise 3"]
