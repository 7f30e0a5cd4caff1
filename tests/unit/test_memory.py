"""Levels of memory, counted by hand."""

from offsim.program.commands import COMPUTE, Allocate, Command, Copy, Free, Section, StreamProgram, Synchronize
from offsim.results.memory import phase_peaks
from offsim.scenario.policy import Resident
from tests.golden.tiny import tiny_scenario

MIB = 2.0**20
A, B, C = (Allocate(name, 10 * MIB, "copy") for name in "abc")
ONE_AT_A_TIME = (10.0, 10.0)


def peaks(*commands: Command) -> tuple[float, float]:
    """Allocated and reserved MiB of one step with these commands."""
    program = StreamProgram("hand-written", (Section("step 0", "denoise", 0, commands),), ((0,),))
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
