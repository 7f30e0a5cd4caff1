"""The clock model, with numbers that can be checked in the head."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from offsim.engine.clock import LOWEST, ClockState, PowerCurve
from offsim.engine.simulate import simulate
from offsim.program.commands import COMPUTE, Compute, HostWork, Kernel, Record, Section, StreamProgram, Synchronize
from offsim.program.groups import sequence_groups
from offsim.program.systems.resident import Resident
from offsim.program.uses import Use
from offsim.results.predict import predict, warnings
from offsim.scenario.gpu import Clock, Energy, Knee
from offsim.scenario.load import load_node
from offsim.scenario.node import Node
from offsim.scenario.quantity import Quantity
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.golden.tiny import tiny_model
from tests.strategies import quantity
from tests.unit import probed_nodes

NONE = quantity(0.0)


def clock(knee: float = 1.0, window: float = 0.02) -> Clock:
    """580 W of headroom; a product at 500 TFLOP/s wants 870 W, and power goes with the square of the clock."""
    return Clock(
        limit=quantity(700.0),
        idle=quantity(120.0),
        window=quantity(window),
        energy=Energy(gemm=quantity(1.74e-12), attention=NONE, byte=NONE),
        power_exponent=quantity(2.0),
        knee=Knee(quantity(knee), quantity(0.9), quantity(0.8)),
        collective=NONE,
        copy=NONE,
    )


def node(with_clock: Clock | None) -> Node:
    plain = probed_nodes.one_gpu()
    return structs.replace(plain, gpu=structs.replace(plain.gpu, clock=with_clock))


def products(count: int, idle: float = 0.0) -> tuple[object, ...]:
    """Products of 1 ms at full clock, each followed by a gap, with a record around each."""
    kernel = Kernel("gemm", 0.5e12, 0.0, 1.0)
    commands: list[object] = []
    for i in range(count):
        commands += [Record(COMPUTE, f"begin {i}"), Compute(COMPUTE, "product", (kernel,)), Record(COMPUTE, f"end {i}")]
        if idle:
            commands += [Synchronize("stream", COMPUTE), HostWork("idle", idle)]
    return tuple(commands)


def durations(machine: Node, commands: tuple[object, ...]) -> list[float]:
    scenario = Scenario(tiny_model(), Workload(tokens=512, steps=1, cfg="none"), machine, Resident())
    program = StreamProgram("load", (Section("load", Use("denoise", step=0), commands),), sequence_groups((0,)))  # type: ignore[arg-type]
    instants = simulate(scenario, program).instants
    count = sum(event.startswith("end") for _, event in instants)
    return [instants[0, f"end {i}"] - instants[0, f"begin {i}"] for i in range(count)]


def test_under_continuous_load_the_clock_is_where_the_demand_draws_the_headroom():
    assert durations(node(clock()), products(400))[-1] == pytest.approx(1e-3 * (870 / 580) ** 0.5, rel=1e-4)


def test_the_clock_falls_once_the_mean_demand_has_passed_the_headroom():
    taken = durations(node(clock()), products(60))
    reached = 0.02 * log(1 / (1 - 580 / 870))  # 22 ms
    full = [t for i, t in enumerate(taken) if (i + 1) * 1e-3 < reached]
    assert full == pytest.approx([1e-3] * len(full))
    assert taken[30] > 1.05e-3


def optional(value: float | None) -> Quantity | None:
    return None if value is None else quantity(value)


def bursting() -> Clock:
    """The same, with 620 W above idle for less than 0.4 s."""
    return structs.replace(clock(), burst=quantity(740.0), averaging=quantity(0.4))


def test_a_load_that_begins_draws_the_burst_and_comes_to_the_limit():
    """Settled on the burst after 0.1 s: sqrt(870 / 620); after seconds: sqrt(870 / 580)."""
    taken = durations(node(bursting()), products(4000))
    assert taken[150] == pytest.approx(1e-3 * (870 / 620) ** 0.5, rel=1e-3)
    assert taken[-1] == pytest.approx(1e-3 * (870 / 580) ** 0.5, rel=1e-3)


def test_the_burst_ends_when_the_longer_mean_has_come_to_twice_the_headroom_less_the_burst():
    """620 (1 - exp(-t / 0.4)) = 2 x 580 - 620 at t = 0.82 s; the first 20 ms at less than that shift it by little."""
    taken = durations(node(bursting()), products(1200))
    burst = 1e-3 * (870 / 620) ** 0.5
    ended = next(i for i in range(100, 1200) if taken[i] > burst * 1.001)
    assert sum(taken[:ended]) == pytest.approx(0.4 * log(620 / 80), rel=0.03)


def test_the_longer_mean_never_passes_the_headroom():
    state = ClockState(bursting())
    for i in range(1000):
        state.set_load(i * 5e-3, 2000.0)
        assert state.drawn(i * 5e-3) <= 580.0 + 1e-9


def test_the_longer_mean_does_not_depend_on_how_often_it_is_looked_at():
    """A load of 900 W for 20 ms, then a gap of 10 ms, ten times: below what is allowed, so nothing is cut."""

    def drawn(looks: int) -> float:
        state, now = ClockState(bursting()), 0.0
        for _ in range(10):
            for demand, seconds in ((900.0, 20e-3), (0.0, 10e-3)):
                for _ in range(looks):
                    state.set_load(now, demand)
                    now += seconds / looks
        return state.drawn(now)

    assert drawn(1) == pytest.approx(drawn(40), rel=1e-3)


def test_where_everything_is_allowed_the_longer_mean_is_the_demand_averaged_twice():
    """d = load (1 + w / (T - w) exp(-t / w) - T / (T - w) exp(-t / T))."""
    state = ClockState(bursting())
    state.set_load(0.0, 500.0)
    short, long = 0.02, 0.4
    expected = 500 * (1 + short / (long - short) * exp(-0.1 / short) - long / (long - short) * exp(-0.1 / long))
    assert state.drawn(0.1) == pytest.approx(expected)


@pytest.mark.parametrize(("burst", "averaging"), [(740.0, None), (740.0, 0.0), (None, 0.0), (690.0, 0.4)])
def test_a_burst_needs_its_window_and_is_no_less_than_the_limit(burst, averaging):
    with pytest.raises(ValueError, match=r"averaging|burst"):
        structs.replace(clock(), burst=optional(burst), averaging=optional(averaging))


def test_a_load_below_the_limit_is_never_slowed():
    assert durations(node(clock()), products(200, idle=1e-3))[-1] == pytest.approx(1e-3)


def test_above_their_knee_and_without_a_clock_kernels_are_never_slowed():
    """Under 870 W the clock is 0.816 of a knee."""
    plain = durations(node(None), products(50))
    assert durations(node(clock(knee=1e-3)), products(50)) == pytest.approx(plain)


def test_below_its_knee_a_kernel_takes_as_much_longer_as_the_clock_is_below_it():
    """A knee at 0.8: 870 W are drawn down to there, 580 W at 0.8 x 0.816 = 0.653."""
    assert durations(node(clock(knee=0.8)), products(400))[-1] == pytest.approx(1e-3 * (870 / 580) ** 0.5, rel=1e-4)


def curve_of_classes() -> PowerCurve:
    """Knees at 1 (products), 0.9 (attention), 0.8 (relayouts), exponent 2."""
    return PowerCurve(clock())


def test_the_clock_falls_below_the_knees_of_those_that_must_draw_less_and_no_further():
    """400 W of products at a clock of 0.95 draw 361 W; below 0.9 attention draws less too."""
    parts = [400.0, 300.0, 0.0]
    assert curve_of_classes().clock(700.0, parts, 661.0) == pytest.approx(0.95)
    assert curve_of_classes().clock(700.0, parts, 400 * 0.85**2 + 300 * (0.85 / 0.9) ** 2) == pytest.approx(0.85)


def test_what_memory_bounds_draws_as_much_at_any_clock():
    """Of 800 W half are products: 500 W leave them 100, at half the clock."""
    parts = [400.0, 0.0, 0.0]
    assert curve_of_classes().clock(800.0, parts, 500.0) == pytest.approx(0.5)
    assert curve_of_classes().clock(800.0, parts, 300.0) == LOWEST


watts = st.floats(0.0, 2000.0)


@given(products=watts, attention=watts, relayouts=watts, rest=st.floats(0.0, 400.0), allowed=st.floats(100.0, 1000.0))
def test_at_the_clock_that_is_found_just_what_is_allowed_is_drawn(products, attention, relayouts, rest, allowed):
    parts = [products, attention, relayouts]
    demand = products + attention + relayouts + rest
    found = curve_of_classes().clock(demand, parts, allowed)
    drawn = rest + sum(part * min(1.0, found / knee) ** 2 for part, knee in zip(parts, (1.0, 0.9, 0.8), strict=True))
    assert LOWEST <= found <= 1.0
    assert drawn <= allowed * (1 + 1e-9) or found == LOWEST
    assert drawn >= min(demand, allowed) * (1 - 1e-9) or found == LOWEST


def test_parts_of_the_mean_add_up_to_it_where_nothing_else_runs():
    state, now = ClockState(clock()), 0.0
    for kernel_class, demand in (("gemm", 870.0), ("attention", 700.0), ("relayout", 500.0), ("gemm", 870.0)):
        state.set_load(now, demand, kernel_class)
        now += 7e-3
    assert sum(state.parts(now)) == pytest.approx(state.mean(now))


def test_the_mean_follows_its_closed_form():
    state = ClockState(clock())
    state.set_load(0.0, 870.0)
    assert state.mean(0.02) == pytest.approx(870 * (1 - exp(-1)))
    state.set_load(0.001, 870.0, "gemm")
    assert state.slowdown("gemm") == 1.0


@given(st.floats(0.0, 2e-3), st.floats(0.0, 2e-3))
def test_more_idle_time_never_makes_a_kernel_slower(a, b):
    short, long = sorted((a, b))
    taken = [durations(node(clock()), products(80, idle=gap))[-1] for gap in (short, long)]
    assert taken[1] <= taken[0] * (1 + 1e-6)


def test_the_switch_turns_the_clock_off():
    machine = node(clock())
    scenario = Scenario(tiny_model(), Workload(tokens=512, steps=1, cfg="none"), machine, Resident())
    off = structs.replace(scenario, simulation=structs.replace(scenario.simulation, clock=False))
    program = StreamProgram("load", (Section("load", Use("denoise", step=0), products(100)),), sequence_groups((0,)))  # type: ignore[arg-type]
    ends = [simulate(s, program).instants[0, "end 99"] for s in (scenario, off)]
    assert ends[1] == pytest.approx(0.1) and ends[0] > ends[1]


@pytest.mark.parametrize(
    ("name", "efficiency", "said"), [("h100-sxm-x8", 1.0, True), ("h100-sxm-x8", 0.9, False), ("h200-x1", 1.0, False)]
)
def test_a_node_without_a_clock_says_that_its_kernels_never_meet_the_power_limit(name, efficiency, said):
    work = Workload(tokens=512, steps=1, cfg="none", compute_efficiency=efficiency)
    found = warnings(predict(Scenario(tiny_model(), work, load_node(name), Resident())))
    assert any(warning.startswith("this node has no clock model") for warning in found) is said
