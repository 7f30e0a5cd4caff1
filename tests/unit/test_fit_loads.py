"""What a soak says of power: the counter of energy, watched every 25 ms, moves every 100 ms."""

import pytest
from msgspec import structs

from calibration.fit.clock import Chip, at_first, continuous, settled_seconds_by_class, while_drawing
from calibration.fit.clock_parameters import Powers, clock_of, completed, identifiable_parameters
from calibration.fit.draw import collective_power, copy_power, idle_power
from calibration.fit.fitting import Fit
from calibration.fit.loads import Load, drawn, soak_load
from calibration.probes.bench import ProbeReading
from calibration.probes.power import keep_classes, load_kernels
from calibration.samples.sample_file import Header, ProbeSample, read_samples
from calibration.validate.records import NODES, nodes_under
from offsim.engine.durations import kernel_energy
from offsim.program.roofline import kernel_duration
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_node
from offsim.scenario.usual import usual

USUAL = usual().clock
POWERS = Powers(limit=700.0, idle=120.0, burst=740.0)


def watched(watts: list[float], probe: str = "soak", **config: str | int | float) -> ProbeSample:
    """A sample whose counter gains `watts` in each tenth of a second."""
    seconds = [0.025 * i for i in range(4 * len(watts))]
    joules = [1000.0 + 0.1 * sum(watts[: i // 4]) for i in range(4 * len(watts))]
    readings = {"watched_seconds": seconds, "watched_energy_J": joules, "seconds": [1.0]}
    return ProbeSample(probe, config, readings, False, 0, {}, "", "none")


def test_power_is_what_the_counter_gains_between_two_of_its_moves():
    assert drawn(watched([500.0] * 30), 0.2, 9.0) == pytest.approx(500.0)


def test_only_the_asked_part_of_a_run_counts():
    sample = watched([300.0] * 10 + [700.0] * 20)
    assert drawn(sample, 0.0, 0.95) == pytest.approx(300.0)
    assert drawn(sample, 1.15, 9.0) == pytest.approx(700.0)


def test_several_runs_are_taken_together_and_what_lies_between_them_does_not_count():
    first, second = watched([400.0] * 20), watched([600.0] * 20)
    readings = {name: first.readings[name] + second.readings[name] for name in ("watched_seconds", "watched_energy_J")}
    both = ProbeSample("soak", {}, readings, False, 0, {}, "", "none")
    assert drawn(both, 0.0, 9.0) == pytest.approx(500.0)


def test_without_a_counter_nothing_is_known():
    assert drawn(ProbeSample("soak", {}, {"seconds": [1.0]}, False, 0, {}, "", "none"), 0.0, 9.0) is None


def soak(seconds: float, begins: float, then: float) -> ProbeSample:
    """Rounds every 10 ms that take `begins` in the first 1.6 s and `then` later; products are a tenth of each."""
    starts = [0.01 * i for i in range(round(100 * seconds))]
    times = [begins if start < 1.6 else then for start in starts]
    readings = {"start": starts, "seconds": times, "class_gemm": [0.1 * t for t in times]}
    return ProbeSample("soak", {"kernels": "mix", "seconds": seconds}, readings, False, 0, {}, "", "none")


def test_of_a_long_soak_what_comes_after_the_burst_counts_and_of_a_short_one_the_burst():
    gpu = load_node("h200-x1").gpu
    long, short = soak_load(soak(5.0, 9e-3, 10e-3), gpu, 1980.0), soak_load(soak(1.6, 9e-3, 10e-3), gpu, 1980.0)
    assert (long.measured, short.measured) == (10e-3, 9e-3)
    assert (dict(long.classes)["gemm"], dict(short.classes)["gemm"]) == pytest.approx((1e-3, 0.9e-3))
    assert [seconds for _, seconds in long.early] == [9e-3] * 4


def test_a_load_goes_with_what_was_drawn_and_else_with_the_burst_or_when_long_with_the_limit():
    """Limits in W: of the time that counts, and of the first 150 ms."""
    clock = clock_of({"energy.gemm": 1e-12, "energy.attention": 1e-12, "energy.byte": 1e-10, "window": 0.02}, POWERS)
    slowed = Load("mix", (), 1, 0.0, measured=1.0)
    cases = {
        (740.0, 740.0): slowed,
        (700.0, 740.0): slowed._replace(lasting=True),
        (765.0, 765.0): slowed._replace(drawn=765.0, burst=765.0),
        (698.0, 765.0): slowed._replace(lasting=True, drawn=698.0, burst=765.0),
    }
    found = {(while_drawing(clock, load).limit.value, at_first(clock, load).limit.value) for load in cases.values()}
    assert found == set(cases)


def test_of_a_load_that_is_not_slowed_what_it_draws_is_no_limit():
    gpu = load_node("h200-x1").gpu
    load = soak_load(soak(1.6, 1e-6, 1e-6), gpu, 1980.0)._replace(drawn=515.0)
    clock = clock_of({"energy.gemm": 1e-12, "energy.attention": 1e-12, "energy.byte": 1e-10, "window": 0.02}, POWERS)
    assert while_drawing(clock, load).limit.value == 740.0


def test_classes_are_those_of_the_rank_that_takes_longest():
    marks = {"part 0": 0.0, "part 0 class 0": 1.0, "part 0 class 1": 3.0, "part 1": 3.0}
    slower = {name: 1.5 * instant for name, instant in marks.items()}
    instants = {(rank, name): at for rank, those in enumerate((marks, slower)) for name, at in those.items()}
    found: dict[str, list[float]] = {}
    keep_classes(found, ProbeReading(instants, 0.0, {}), 0, ["gemm", "attention"])
    assert found == {"class_gemm": [1.5], "class_attention": [3.0]}


def fit_of(samples: list[ProbeSample]) -> Fit:
    headers, _ = read_samples([NODES / "h100-x1-c" / "samples.jsonl"])
    return Fit([Header("full", "0" * 12, headers[0].inventory, "2026-01-01", "none")], samples)


def test_idle_copies_and_collectives_are_what_was_drawn_less_idle():
    loads = [watched([130.0] * 30, "draw", load="idle"), watched([210.0] * 30, "draw", load="H2D")]
    loads += [watched([200.0] * 30, "draw", load="D2H"), watched([330.0] * 30, "draw-together", load="all-to-all")]
    fit = fit_of(loads)
    idle, source = idle_power(fit)
    assert (idle, source) == (pytest.approx(130.0), "energy counter while idle")
    assert (copy_power(fit, idle), collective_power(fit, idle)) == (pytest.approx(80.0), pytest.approx(200.0))


def test_a_node_that_was_not_asked_has_the_guesses():
    fit = fit_of([])
    assert idle_power(fit) == (USUAL.idle.value, "")
    assert (copy_power(fit, USUAL.idle.value), collective_power(fit, USUAL.idle.value)) == (None, None)


def test_the_power_of_collectives_elsewhere_is_what_the_committed_sample_shows():
    files = [NODES / f"h100-x2-{node}-nvlink" / "samples-nvlink.jsonl" for node in "de"]
    found = [collective_power(fit_of(read_samples([file])[1]), USUAL.idle.value) for file in files]
    assert sum(watts or 0.0 for watts in found) / 2 == pytest.approx(USUAL.collective.value, abs=1.0)


def test_the_powers_of_an_idle_chip_and_of_copies_elsewhere_are_what_the_committed_samples_show():
    _, samples = read_samples([NODES / "h100-x2-e-nvlink" / "samples-1-gpu.jsonl"])
    idle, source = idle_power(fit_of(samples))
    assert (idle, source) == (pytest.approx(USUAL.idle.value, abs=0.1), "energy counter while idle")
    assert copy_power(fit_of(samples), idle) == pytest.approx(USUAL.copy.value, abs=0.1)


def test_a_node_without_a_profile_of_its_own_has_the_one_that_it_names(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "profile.toml").touch()
    (tmp_path / "b" / "profile-of.txt").write_text("a\n")
    found = {folder.name: profile for folder, profile in nodes_under(tmp_path)}
    assert found == {"a": tmp_path / "a" / "profile.toml", "b": tmp_path / "a" / "profile.toml"}
    (tmp_path / "c" / "profile-of.txt").write_text("nobody\n")
    with pytest.raises(ScenarioError, match=r"'nobody': no profile\.toml there"):
        list(nodes_under(tmp_path))


TRUE = {
    "energy.gemm": 1.3e-12,
    "energy.attention": 1.4e-12,
    "energy.byte": 1.3e-10,
    "window": 0.025,
    "energy.relayout": 2.5e-10,
    "power_exponent": 3.0,
    "knee.gemm": 0.83,
    "knee.attention": 0.92,
    "knee.relayout": 0.86,
}


def load_of(name: str, *, timed: bool, watched: bool) -> Load:
    """What a chip with these values does with a load, once it draws its limit; no noise."""
    gpu, clock = load_node("calibration/nodes/h100-x2-e-nvlink/profile.toml").gpu, clock_of(TRUE, POWERS)
    kernels = tuple((kernel, kernel_duration(kernel, gpu)) for kernel in load_kernels(name))
    load = Load(name, kernels, 1, 0.0, 0.0, lasting=True)
    by_class = settled_seconds_by_class(load, structs.replace(clock, burst=None, averaging=None))
    load = load._replace(measured=sum(by_class.values()))
    reading = continuous(load, clock) if watched else None
    demand = sum(kernel_energy(kernel, clock) for kernel, _ in kernels) / load.measured
    power = POWERS.idle + demand if watched and reading == 1.0 else None
    return load._replace(classes=tuple(by_class.items()) if timed and not load.only else (), clock=reading, power=power)


NAMES = ("gemm", "attention", "elementwise", "relayout", "mix", "mix-32768", "half-16384")


def test_the_clock_of_a_chip_comes_back_from_loads_whose_classes_were_timed():
    loads = [load_of(name, timed=True, watched=True) for name in NAMES]
    chip = Chip(POWERS, identifiable_parameters(loads))
    found = dict(zip((parameter.name for parameter in chip.free), chip.best(loads), strict=True))
    assert {name: found[name] for name in TRUE if name != "window"} == {
        name: pytest.approx(value, rel=0.01) for name, value in TRUE.items() if name != "window"
    }


def test_knees_are_told_by_a_clock_that_was_read_and_else_are_those_of_other_chips():
    read = [load_of(name, timed=False, watched=True) for name in ("gemm", "attention", "mix", "elementwise")]
    names = {parameter.name for parameter in identifiable_parameters(read)}
    assert {"knee.gemm", "knee.attention", "power_exponent"} <= names and "knee.relayout" not in names
    unread = [load_of(name, timed=False, watched=False) for name in ("gemm", "attention", "mix", "elementwise")]
    assert {parameter.name for parameter in identifiable_parameters(unread)} == {
        "energy.gemm",
        "energy.attention",
        "window",
    }
    values = completed({"knee.gemm": 0.9, "energy.byte": 1e-10})
    assert values["knee.relayout"] == pytest.approx(0.9, rel=0.01)
    assert values["energy.relayout"] == pytest.approx(1.9e-10)
    assert 0.8 < values["knee.attention"] < 0.9 and 2.5 < values["power_exponent"] < 4.5
