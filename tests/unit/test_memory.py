"""Levels of memory, counted by hand."""

import pytest
from msgspec.structs import replace

from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Free, Section, StreamProgram, Synchronize
from offsim.program.groups import sequence_groups
from offsim.program.load import load_scenario
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.program.uses import Use
from offsim.results.layout import render
from offsim.results.memory import Levels, phase_peaks
from offsim.results.predict import predict, warnings
from offsim.results.tables import fit_words, memory
from offsim.scenario.load import load_model, load_node
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_scenario

MIB = 2.0**20
A, B, C = (Allocate(name, 10 * MIB, "copy") for name in "abc")
VIDEO = {"width": 1280, "height": 720, "frames": 81}
ONE_AT_A_TIME = (10.0, 10.0)


def peaks(*commands: Command) -> tuple[float, float]:
    """Allocated and reserved MiB of one step with these commands."""
    program = StreamProgram(
        "hand-written", (Section("step 0", Use("denoise", step=0), commands),), sequence_groups((0,))
    )
    (peak,) = phase_peaks(tiny_scenario(Resident()), program)
    return peak.allocated / MIB, peak.reserved / MIB


def test_memory_is_used_again_as_soon_as_it_is_freed():
    assert peaks(A, Free("a"), B, Free("b")) == ONE_AT_A_TIME


def test_memory_with_a_recorded_stream_stays_reserved_until_the_host_has_waited_for_the_stream():
    """It counts as allocated no longer than other memory."""
    freed = Free("a", (COMPUTE,)), Free("b", (COMPUTE,))
    assert peaks(A, freed[0], B, freed[1], C, Free("c")) == (10.0, 30.0)
    assert peaks(A, freed[0], Synchronize("stream", "copy"), B, Free("b")) == (10.0, 20.0)
    for wait in (Synchronize("stream", COMPUTE), Synchronize("device"), Copy(COMPUTE, "x", "D2H", 1.0, "fresh", "x")):
        assert peaks(A, freed[0], wait, B, Free("b")) == ONE_AT_A_TIME


def test_reserved_memory_is_told_as_a_bound_where_streams_were_recorded():
    for recorded in (False, True):
        prediction = predict(tiny_scenario(DiffusersGroup(stream=True, record_stream=recorded)))
        assert ("at most" in render(*memory(prediction))) is recorded
        assert prediction.phases[-1].reserved_at_most is recorded


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        ("flux.1-dev", {"width": 1024, "height": 1024}, None),
        ("flux.1-dev", {"tokens": 4096}, "follow from width, height and frames, not from tokens"),
        ("wan2.2-t2v-a14b", VIDEO, "has 5.3 GiB of VAE activations, a guess: they take 17.6 GiB without tiles"),
        ("hunyuanvideo", VIDEO, "is shown without VAE activations: they take 34.3 GiB without tiles"),
        ("minimax-h3", {"width": 1280, "height": 768}, "this model's VAE activations are not known"),
    ],
)
def test_what_the_memory_of_decoding_lacks_is_said(model, size, said):
    work = Workload(**{**size, "steps": 2, "flow_shift": 1.0})
    scenario = Scenario(load_model(model), work, load_node("h100-sxm-x8"), SGLangLayerwise())
    prediction = predict(scenario)
    found = [warning for warning in warnings(prediction) if warning.startswith("decoding")]
    assert found == [] if said is None else (len(found) == 1 and said in found[0])
    assert ("left out" in fit_words(prediction)) is (said is not None and "a guess" not in said)


def test_diffusers_has_the_whole_text_encoder_on_the_device_and_sglang_two_layers_of_it():
    """FLUX.1 dev's has 4.885 B parameters: 9.77e9 bytes in bf16, in 24 layers."""
    encoder = load_model("flux.1-dev").text_encoder
    assert encoder is not None and encoder.weight_bytes == pytest.approx(9.77e9, rel=1e-3)
    scenario = load_scenario("flux.1-dev-rtx4090-layerwise")
    peaks = {}
    for policy in (DiffusersGroup(stream=True), SGLangLayerwise()):
        found = predict(replace(scenario, policy=policy))
        peaks[policy.tag] = {phase.phase: phase.allocated for phase in found.phases}
    assert 9.77e9 < peaks["diffusers-group"]["encode"] < 10e9
    assert peaks["sglang-layerwise"]["encode"] < 3e9


def test_reserved_memory_stays_at_the_highest_level_of_its_pool():
    """100 MiB, given back, then 10 MiB of the same pool: 100 MiB stay reserved, 10 are allocated."""
    levels = Levels("none")
    levels.allocate(Allocate("large", 100 * 2**20, COMPUTE))
    levels.free(Free("large"))
    levels.allocate(Allocate("small", 10 * 2**20, COMPUTE))
    assert (levels.reserved, levels.device) == (100 * 2**20, 10 * 2**20)
