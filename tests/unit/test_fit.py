"""Fits: parameters that went into the simulator come back, and what the fit does not know shows."""

import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

from calibration.fit.profile import Fitted, fit_profile, fit_samples
from calibration.fit.summary import SummaryRow, summary_table
from calibration.probes import PROBES
from calibration.probes.probe import Probe
from calibration.samples.sample_file import Header, ProbeSample, read_samples
from calibration.validate.records import NODES, read_records
from calibration.validate.simulated_bench import SimulatedBench, inventory_of, simulated_samples
from offsim.program.offloading.hooks import weights_of
from offsim.scenario.gpu import usual_unpacking
from offsim.scenario.load import load_node
from offsim.scenario.node import Node
from tests.strategies import curve
from tests.unit import probed_nodes

APART = ("draw", "draw-together", "soak", "duty", "gemm", "attention", "relayout", "unpack")
"""Slow in the simulator, or measured by a test of its own."""
NOISE = 0.01


def quickly(node: Node) -> tuple[Probe, ...]:
    """All other probes."""
    return tuple(probe for probe in PROBES if probe.key not in APART and not probe.can_run(inventory_of(node)))


def few(bench: SimulatedBench, key: str, count: int) -> list[ProbeSample]:
    """Samples of the first configurations of a probe."""
    probe = next(probe for probe in PROBES if probe.key == key)
    configurations = probe.configurations("quick", bench.node)[:count]
    return [
        ProbeSample(key, c, probe.measure(bench, c, 3), False, i, {}, "", bench.transport)
        for i, c in enumerate(configurations)
    ]


def calibrated(node: Node, bench: SimulatedBench | None = None) -> Fitted:
    """The profile that a calibration inside the simulator gives."""
    bench = bench or SimulatedBench(node, NOISE, seed=3)
    samples, _ = simulated_samples(bench, "full", quickly(node))
    samples += [s for key, count in (("gemm", 6), ("attention", 6), ("relayout", 4)) for s in few(bench, key, count)]
    inventory = structs.replace(inventory_of(node), gpu_name="round", fingerprint="0" * 12)
    return fit_samples([Header("full", "0" * 12, inventory, "2026-01-01", bench.transport)], samples, "again")


def values(fitted: Fitted) -> dict[str, tuple[float, float, float]]:
    """parameter -> (value, low, high), in the summary's units."""
    found = {}
    for row in fitted.summary:
        if row.interval:
            low, high = row.interval.split(" to ")
            found[row.parameter] = (float(row.value.split()[0]), float(low), float(high))
    return found


def assert_comes_back(found: dict[str, tuple[float, float, float]], key: str, expected: float) -> None:
    """The value lies in its interval, widened by the noise that one run's readings share."""
    value, low, high = found[key]
    assert low * (1 - 2 * NOISE) <= expected <= high * (1 + 2 * NOISE), f"{key}: {expected} not in {low} to {high}"
    identified = (high - low) / value <= 0.3
    assert not identified or value == pytest.approx(expected, rel=0.05)


def test_a_calibration_inside_the_simulator_returns_the_links_that_went_in():
    node = probed_nodes.one_gpu(probed_nodes.link(latency=10e-6, duplex=1.5, further_call=5e-6))
    found = values(calibrated(node))
    for key, expected in {
        "wiring.pcie.h2d": 50.0,
        "wiring.pcie.d2h": 50.0,
        "wiring.pcie.latency": 10.0,
        "wiring.pcie.duplex": 1.5,
        "wiring.pcie.further_call": 5.0,
        "host.pageable_h2d": 5.0,
        "host.pageable_d2h": 10.0,
        "host.fresh_d2h": 1.0,
    }.items():
        assert_comes_back(found, key, expected)


def test_a_calibration_inside_the_simulator_returns_how_collectives_share_a_link():
    found = values(calibrated(probed_nodes.two_gpus(weight=0.3, latency=40e-6)))
    assert_comes_back(found, "wiring.collectives.all_to_all.weight", 0.3)
    assert_comes_back(found, "wiring.collectives.all_to_all.latency", 40.0)


def test_a_calibration_inside_the_simulator_returns_how_two_kinds_of_collectives_slow_each_other():
    entries = probed_nodes.slowed("all-to-all", "all-gather", 2.0) + probed_nodes.slowed(
        "all-gather", "all-to-all", 0.2
    )
    found = values(calibrated(probed_nodes.two_gpus(interference=entries)))
    assert_comes_back(found, "wiring.collectives.all_to_all.interference.collective", 2.0)
    assert_comes_back(found, "wiring.collectives.all_gather.interference.collective", 0.2)


def test_the_profile_loads_as_a_node_and_kernels_take_what_was_measured(tmp_path: Path):
    fitted = calibrated(probed_nodes.one_gpu())
    path = tmp_path / "profile.toml"
    path.write_text(fitted.toml)
    node = load_node(str(path))
    assert node.wiring.pcie.h2d.provenance == "measured"
    rate = next(iter(node.gpu.gemm_shapes.values())).highest()
    assert rate == pytest.approx(500e12, rel=0.03)


def test_a_calibration_inside_the_simulator_returns_how_fast_weights_are_unpacked(tmp_path: Path):
    node = probed_nodes.one_gpu(unpack=curve((4, 1e12), (8, 2e12)))
    bench = SimulatedBench(node, NOISE, seed=3)
    chosen = tuple(probe for probe in PROBES if probe.key in ("h2d", "d2h", "elementwise", "unpack"))
    samples = simulated_samples(bench, "full", chosen)[0] + few(bench, "gemm", 1) + few(bench, "attention", 1)
    fitted = fit_samples([Header("full", "0" * 12, inventory_of(node), "2026-01-01", "none")], samples, "again")
    path = tmp_path / "profile.toml"
    path.write_text(fitted.toml)
    unpack = load_node(str(path)).gpu.unpack
    assert unpack.provenance == "measured"
    assert unpack.points == ((4, pytest.approx(1e12, rel=0.03)), (8, pytest.approx(2e12, rel=0.03)))
    error = next(row.held_out_error for row in fitted.summary if row.parameter == "gpu.unpack")
    assert 0 < float(error.removesuffix(" %")) < 3


def test_weights_are_unpacked_as_fast_as_on_the_machine_that_measured_it():
    measured = load_node("calibration/nodes/h100-x2-e-nvlink/profile.toml").gpu.unpack
    assert measured.provenance == "measured"
    assert usual_unpacking().points == tuple((bits, pytest.approx(measured.at(bits), rel=1e-3)) for bits in (4, 8))


def test_a_step_that_unpacks_takes_no_longer_than_the_kernels_alone_would_add():
    """Six blocks of 703 MB, in turns with int8 that kernels read: a kernel that draws less lets the others catch up."""
    records = {r.case.name: r for r in read_records()[0] if r.node == "h100-x2-b-nvlink"}
    unpacked, native = (records[f"x2-nvlink-wan-14b-12000-int8-{form}"] for form in ("unpacked", "native"))
    block = weights_of(unpacked.case.scenario(str(unpacked.profile))).block[0]
    alone = sum(unpacked.case.blocks) * 1.5 * block / usual_unpacking().at(8)
    assert 0.7 * alone < unpacked.policy() - native.policy() < alone


class Throttling(SimulatedBench):
    """Copies longer than 4 ms take a quarter longer: a mechanism that no fit knows."""

    def run(self, commands, **how):  # type: ignore[no-untyped-def]
        reading = super().run(commands, **how)
        sizes = [c.bytes for c in commands if type(c).__name__ == "Copy"]
        factor = 1.25 if sizes and max(sizes) > 200e6 else 1.0
        return reading._replace(instants={key: factor * at for key, at in reading.instants.items()})


def test_a_mechanism_that_the_fit_does_not_know_is_named_and_not_averaged_away():
    node = probed_nodes.one_gpu(probed_nodes.link(latency=10e-6))
    rows = {row.parameter: row for row in calibrated(node, Throttling(node, NOISE, seed=3)).summary}
    assert "not explained" in rows["wiring.pcie.h2d"].note
    honest = {row.parameter: row for row in calibrated(node).summary}
    assert "not explained" not in honest["wiring.pcie.h2d"].note


def test_held_out_sizes_change_the_error_and_nothing_else():
    node = probed_nodes.one_gpu()
    bench = SimulatedBench(node)
    samples, _ = simulated_samples(bench, "full", quickly(node))
    samples += [s for key in ("gemm", "attention", "relayout") for s in few(bench, key, 3)]
    header = Header("full", "0" * 12, inventory_of(node), "2026-01-01", "none")
    wrong = [
        structs.replace(s, readings={"seconds": [2 * t for t in s.readings["seconds"]]})
        if s.held_out and s.probe == "h2d"
        else s
        for s in samples
    ]
    first, second = (fit_samples([header], some, "x") for some in (samples, wrong))
    assert first.toml == second.toml
    errors = [next(r.held_out_error for r in f.summary if r.parameter == "wiring.pcie.h2d") for f in (first, second)]
    assert errors == ["0.0 %", "50.0 %"]


REFITTED = ("h100-x1-a", "h200-x1-b", "h100-x2-e-nvlink", "h200-x2-a-host-memory")
"""One GPU of each kind and pairs over both transports. `calibration.fit` fits all, in ten minutes."""


@pytest.mark.parametrize("name", REFITTED)
def test_committed_profiles_are_what_their_samples_give(name):
    fitted = fit_profile(sorted((NODES / name).glob("samples*.jsonl")), name)
    assert fitted.toml == (NODES / name / "profile.toml").read_text()


def committed(name: str) -> tuple[list[Header], list[ProbeSample]]:
    return read_samples([NODES / name / "samples.jsonl"])


def test_samples_in_two_files_of_one_node_are_one_fit(tmp_path):
    headers, samples = committed("h200-x1-a")
    path = tmp_path / "profile.toml"
    path.write_text(fit_samples(headers * 2, samples * 2, "twice").toml)
    assert load_node(str(path)).gpu.clock is not None


def test_clocks_read_in_held_out_loads_leave_the_clock_model_alone():
    headers, samples = committed("h200-x1-c")
    wrong = [
        structs.replace(s, state={**s.state, "sm_clock_MHz": 2500.0}) if s.held_out and s.probe == "duty" else s
        for s in samples
    ]
    first, second = (fit_samples(headers, some, "x").toml for some in (samples, wrong))
    assert first == second


def test_a_machine_with_quotes_in_its_name_and_no_pageable_samples_still_gives_a_profile(tmp_path):
    headers, samples = committed("h200-x1-b")
    odd = structs.replace(headers[0], inventory=structs.replace(headers[0].inventory, cpu='a "fast" one'))
    path = tmp_path / "profile.toml"
    path.write_text(fit_samples([odd], [s for s in samples if s.probe != "pageable"], "odd").toml)
    node = load_node(str(path))
    assert 'a "fast" one' in node.notes
    assert node.host.pageable_h2d.provenance == "guess"


def test_without_a_power_limit_there_is_no_clock_model_and_the_summary_says_why(tmp_path):
    headers, samples = committed("h200-x1-a")
    quiet = structs.replace(headers[0], inventory=structs.replace(headers[0].inventory, power_limit_watts=0.0))
    fitted = fit_samples([quiet], samples, "quiet")
    path = tmp_path / "profile.toml"
    path.write_text(fitted.toml)
    assert load_node(str(path)).gpu.clock is None
    assert [row.note for row in fitted.summary if row.parameter == "gpu.clock"] == ["nvidia-smi tells no power limit"]


def test_a_cost_that_noise_makes_negative_is_zero_and_the_profile_loads(tmp_path):
    """One call of a block that took longer than 27 and 100 calls: what a link does that others load too."""
    headers, samples = committed("h200-x1-b")
    noisy = [
        structs.replace(s, readings={"seconds": [1.05 * t for t in s.readings["seconds"]]})
        if s.probe == "chunks" and s.config["calls"] == 1
        else s
        for s in samples
    ]
    fitted = fit_samples(headers, noisy, "noisy")
    path = tmp_path / "profile.toml"
    path.write_text(fitted.toml)
    further = load_node(str(path)).wiring.pcie.further_call
    assert further is not None and further.value == 0
    notes = [row.note for row in fitted.summary if row.parameter == "wiring.pcie.further_call"]
    assert notes == ["not told from 0; not identified"]


@pytest.mark.parametrize(("content", "said"), [(None, "samples"), ("hello\n", "not a file of samples")])
def test_a_folder_without_samples_is_one_sentence_and_exit_code_2(tmp_path, content, said):
    if content is not None:
        (tmp_path / "samples.jsonl").write_text(content)
    ran = subprocess.run([sys.executable, "-m", "calibration.fit", str(tmp_path)], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert said in ran.stderr


def test_a_summary_names_values_by_the_keys_of_the_profile():
    values = {"pcie.h2d": "55.2 GBps", "pcie.duplex": "1.6", "gpu.gemm": "12 sizes", "gpu.clock": "1980 MHz at most"}
    table = summary_table([SummaryRow(name, value, "", "", 1, "") for name, value in values.items()])
    assert list(table.columns[0].cells) == ["pcie.h2d_GBps", "pcie.duplex", "gpu.gemm", "gpu.clock"]
