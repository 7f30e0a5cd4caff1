"""Probes on simulated nodes of round numbers read those numbers back; their programs keep to the rules."""

import types
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from msgspec import Struct
from msgspec.structs import replace
from pytest import approx

from calibration.probes import PROBES, Probe
from calibration.probes.bench import ProbeReading, program_of
from calibration.probes.copies import background_rate
from calibration.probes.own_programs import AccessRates, rates_inside
from calibration.probes.writing import moved_inside
from calibration.samples.sample_file import Configuration, ProbeSample
from calibration.validate.simulated_bench import SimulatedBench, inventory_of, simulated_samples
from offsim.program.check import problems
from offsim.program.commands import Collective, Command, Compute, Copy, Kernel
from offsim.program.passages import stream_of
from offsim.scenario.node import Node
from offsim.scenario.quantity import Curve, Quantity
from tests.strategies import curve, no_overheads, quantity
from tests.unit.probed_nodes import link, one_gpu, slowed, two_gpus

PROBE = {probe.key: probe for probe in PROBES}
OWN_KERNELS = ("triad", "sm-read")
NODES = {
    "one GPU": one_gpu(),
    "host memory": two_gpus(),
    "NVLink": two_gpus(nvlink=True),
}
STREAM_HOLDS = 1000
"""Commands that CUDA lets a stream hold before the host blocks: under a gate it would block until the gate opens."""


def read(node: Node, key: str, repeats: int = 1, **config: str | float | int) -> dict[str, list[float]]:
    """Readings of one configuration."""
    return PROBE[key].measure(SimulatedBench(node), dict(config), repeats)


def only(values: list[float]) -> float:
    """The value that a noiseless bench reads every time."""
    assert max(values) == approx(min(values))
    return values[0]


# --- host time


def test_overheads_read_the_host_time_of_each_command():
    costs = {"launch": 5e-6, "copy": 6e-6, "event": 2e-6, "synchronize": 10e-6, "collective": 25e-6}
    node = two_gpus().with_overheads(replace(no_overheads(), **{k: quantity(v) for k, v in costs.items()}))
    for command, seconds in costs.items():
        assert only(read(node, "overheads", command=command)["seconds"]) == approx(seconds)


def test_the_allocation_probe_reads_the_allocation_and_a_fiftieth_of_a_record():
    overheads = replace(no_overheads(), allocation=quantity(4e-6), event=quantity(5e-6))
    node = one_gpu().with_overheads(overheads)
    assert only(read(node, "overheads", command="allocation")["seconds"]) == approx(4.1e-6)


# --- copies


@pytest.mark.parametrize("key", ["h2d", "d2h"])
def test_a_copy_takes_its_bytes_over_the_rate_and_the_latency(key):
    assert only(read(one_gpu(link(latency=10e-6)), key, bytes=500_000_000)["seconds"]) == approx(10.01e-3)


def test_small_copies_read_the_latency():
    assert only(read(one_gpu(link(latency=10e-6)), "h2d", bytes=50_000)["seconds"]) == approx(11e-6)


def test_each_further_call_of_a_transfer_adds_its_cost():
    node = one_gpu(link(further_call=10e-6))
    whole = only(read(node, "chunks", bytes=500_000_000, calls=1)["seconds"])
    assert only(read(node, "chunks", bytes=500_000_000, calls=27)["seconds"]) == approx(whole + 260e-6)


@pytest.mark.parametrize(
    ("direction", "memory", "seconds"), [("H2D", "pageable", 0.2), ("D2H", "pageable", 0.1), ("D2H", "fresh", 1.0)]
)
def test_pageable_copies_read_their_three_rates(direction, memory, seconds):
    found = read(one_gpu(), "pageable", direction=direction, memory=memory, bytes=10**9)
    assert only(found["seconds"]) == approx(seconds)


@pytest.mark.parametrize(("duplex", "rate"), [(2.0, 50e9), (1.6, 40e9), (1.0, 25e9)])
@pytest.mark.parametrize("foreground", ["H2D", "D2H"])
def test_copies_both_ways_see_the_duplex_limit(duplex, rate, foreground):
    found = read(one_gpu(link(duplex=duplex)), "bidirectional", foreground=foreground, bytes=400_000_000)
    assert only(found["seconds"]) == approx(400e6 / rate)
    assert only(found["background_rate"]) == approx(rate)


@pytest.mark.parametrize("key", ["h2d", "d2h", "chunks", "pageable", "bidirectional"])
def test_one_link_is_measured_alone_on_a_node_of_several_gpus(key):
    node, alone = two_gpus(read=60e9), one_gpu()
    for config in PROBE[key].configurations("quick", inventory_of(node)):
        assert read(node, key, **config) == read(alone, key, **config)


def test_a_small_copy_waits_behind_large_ones_of_another_stream():
    found = read(one_gpu(), "copy-order", small_bytes=50_000, large_bytes=500_000_000)
    assert [only(found[f"large_{i}_end"]) for i in (1, 3)] == [approx(10e-3, rel=1e-3), approx(30e-3, rel=1e-3)]
    assert only(found["small_end"]) > 10e-3


def test_two_gpus_share_what_host_memory_reads():
    node = two_gpus(read=60e9)
    config = {"bytes": 300_000_000, "gpus": 2}
    assert only(read(node, "together", direction="H2D", **config)["h2d_seconds"]) == approx(10e-3)
    assert only(read(node, "together", direction="D2H", **config)["d2h_seconds"]) == approx(6e-3)
    both = read(node, "together", direction="both", **config)
    assert only(both["h2d_seconds"]) == approx(10e-3)
    assert only(both["d2h_seconds"]) == approx(6e-3)


# --- kernels


def test_a_product_takes_its_flops_over_the_rate():
    # 2 x 10,000 x 5,000 x 10,000 = 1 TFLOP at 500 TFLOP/s.
    assert only(read(one_gpu(), "gemm", rows=10_000, inputs=5_000, outputs=10_000)["seconds"]) == approx(2e-3)


def test_attention_takes_its_flops_over_the_rate():
    # 4 x 10,000 x 10,000 x (10 x 100) = 0.4 TFLOP at 400 TFLOP/s.
    found = read(one_gpu(), "attention", heads=10, head_dim=100, queries=10_000, keys=10_000)
    assert only(found["seconds"]) == approx(1e-3)


def test_elementwise_kernels_and_relayouts_take_their_bytes_over_the_rate():
    assert only(read(one_gpu(), "elementwise", bytes=10**9)["seconds"]) == approx(0.25e-3)
    # 2 x 2 bytes x 1000 x 2 x 2500 = 20 MB at 2 TB/s.
    assert only(read(one_gpu(), "relayout", rows=1000, parts=2, columns=2500)["seconds"]) == approx(10e-6)


def test_unpacking_takes_what_it_reads_and_writes_over_the_rate_of_its_bits():
    node = one_gpu(unpack=curve((4, 1e12), (8, 2e12)))
    # From 8 bits 0.5 + 1 GB at 2 TB/s, from 4 bits 0.25 + 1 GB at 1 TB/s.
    assert only(read(node, "unpack", bits=8, bytes=10**9)["seconds"]) == approx(0.75e-3)
    assert only(read(node, "unpack", bits=4, bytes=10**9)["seconds"]) == approx(1.25e-3)


# --- load


def test_a_soak_without_a_clock_model_is_steady():
    found = read(one_gpu(), "soak", kernels="elementwise", seconds=1.6)
    assert only(found["seconds"]) == approx(600e6 / 4e12)
    assert found["start"][0] == 0.0
    steps = [b - a for a, b in zip(found["start"], found["start"][1:], strict=False)]
    assert only(steps) == approx(30 * 600e6 / 4e12)
    assert found["start"] == sorted(found["start"])


def test_bursts_with_gaps_read_the_kernels_without_the_gaps():
    # 2 x 8192 x 5120 x 13824 FLOP at 500 TFLOP/s.
    found = read(one_gpu(), "duty", kernels="gemm", busy=0.01, idle=0.01)
    assert only(found["seconds"]) == approx(2.3193e-3, rel=1e-4)
    assert len(found["seconds"]) == 36


# --- two things at once


@pytest.mark.parametrize("kernel", ["gemm", "attention", "elementwise", "relayout"])
def test_a_kernel_beside_copies_is_as_much_slower_as_the_node_says(kernel):
    node = one_gpu(interference=slowed(kernel, "H2D", 0.1))
    found = read(node, "kernel-copy", kernel=kernel, direction="H2D")
    assert len(found["alone"]) == len(found["beside"]) == 2
    assert only(found["beside"]) / only(found["alone"]) == approx(1.1)
    other = read(node, "kernel-copy", kernel=kernel, direction="D2H")
    assert only(other["beside"]) == approx(only(other["alone"]))


@pytest.mark.parametrize("nvlink", [False, True])
def test_a_product_beside_all_gathers_is_slower_while_one_is_active(nvlink):
    node = two_gpus(nvlink=nvlink, interference=slowed("gemm", "collective", 0.25))
    found = read(node, "kernel-collective", kernel="gemm", kind="all-gather")
    assert only(found["collective_alone"]) == approx(350e6 / (200e9 if nvlink else 20e9))
    # Between two gathers the next one waits for a product to end.
    active = only(found["collective_alone"]) / only(found["collective_beside"])
    assert 0.4 < active < 1
    assert only(found["alone"]) / only(found["beside"]) == approx(active / 1.25 + 1 - active, rel=0.01)


@pytest.mark.parametrize("key", ["all-to-all", "all-gather"])
def test_collectives_read_latency_and_rate(key):
    node = two_gpus(latency=50e-6)
    assert only(read(node, key, bytes=200_000_000)["seconds"]) == approx(10.05e-3)
    assert only(read(node, key, bytes=1_000_000)["seconds"]) == approx(100e-6)


def beside_copies(node: Node, **changes: str | int) -> dict[str, list[float]]:
    """A 50 MB all-to-all beside copies of 50 MB."""
    config: Configuration = {
        "direction": "H2D",
        "every": 0,
        "bytes": 50_000_000,
        "copy_bytes": 50_000_000,
        "kind": "all-to-all",
        "only_rank": -1,
    }
    return read(node, "copy-collective", **{**config, **changes})


@pytest.mark.parametrize("direction", ["H2D", "D2H"])
@pytest.mark.parametrize("kind", ["all-to-all", "all-gather"])
def test_collectives_through_host_memory_share_the_link_by_their_weight(direction, kind):
    # Weight 1/4 against 1 on 50 GB/s: 10 and 40 GB/s.
    found = beside_copies(two_gpus(weight=0.25), direction=direction, kind=kind)
    assert only(found["alone"]) == approx(50e6 / 20e9)
    assert only(found["beside"]) == approx(50e6 / 10e9)
    assert only(found["copy_rate"]) == approx(40e9)
    assert only(found["duty"]) == 1.0


@pytest.mark.parametrize("kind", ["all-to-all", "all-gather", "all-reduce"])
def test_every_kind_is_asked_beside_copies_of_both_directions_at_five_sizes(kind):
    configs = PROBE["copy-collective-sizes"].configurations("full", inventory_of(NODES["host memory"]))
    sizes = {d: {c["bytes"] for c in configs if (c["kind"], c["direction"]) == (kind, d)} for d in ("H2D", "D2H")}
    assert len(sizes["H2D"]) == 5
    assert sizes["H2D"] == sizes["D2H"]
    for config in (c for c in configs if c["kind"] == kind):
        found = read(two_gpus(weight=0.25), "copy-collective-sizes", **config)
        assert only(found["beside"]) == approx(float(config["bytes"]) / 10e9)
        # The copy that the last collective's end cuts goes on faster: a part of it counts at its mean rate.
        assert only(found["copy_rate"]) == approx(40e9, rel=0.01)


def test_collectives_over_nvlink_leave_the_copies_their_link():
    found = beside_copies(two_gpus(nvlink=True, weight=0.25))
    assert only(found["beside"]) == approx(only(found["alone"])) == approx(50e6 / 200e9)
    assert only(found["copy_rate"]) == approx(50e9)


def test_a_copy_after_every_collective_is_active_for_its_share_of_the_window():
    # A copy at 40 GB/s takes 1.25 ms. Meanwhile the all-to-all has moved 12.5 MB; the other 37.5 take 1.875 ms alone.
    found = beside_copies(two_gpus(weight=0.25), every=1)
    assert only(found["beside"]) == approx(3.125e-3)
    assert only(found["copy_rate"]) == approx(40e9)
    assert only(found["duty"]) == approx(1.25 / 3.125)
    assert only(beside_copies(two_gpus(weight=0.25), every=2)["duty"]) == approx(1.25 / (3.125 + 2.5))


def test_copies_that_reach_beyond_the_window_count_inside_it_only():
    # Copies of 250 MB beside 8 all-to-alls: one copy is always active, at 40 GB/s.
    found = beside_copies(two_gpus(weight=0.25), every=1, copy_bytes=250_000_000)
    assert only(found["duty"]) == approx(1.0)
    assert only(found["copy_rate"]) == approx(40e9)


# --- background


def marked(rank: int, *ends: float) -> dict[tuple[int, str], float]:
    """A window from 1 s to 3 s, and copies that end at these instants."""
    return {(rank, "begin"): 1.0, (rank, "end"): 3.0} | {(rank, f"H2D {i}"): end for i, end in enumerate(ends)}


def test_a_background_is_rated_inside_the_window():
    # Of the second copy (0.5 s to 1.5 s) one half falls inside, of the last one (2.5 s to 4.5 s) a quarter.
    assert moved_inside([0.0, 0.5, 1.5, 2.5, 4.5], 100.0, 1.0, 3.0) == approx(175.0)
    reading = ProbeReading(marked(0, 0.0, 0.5, 1.5, 2.5, 4.5), 0.0, {})
    assert background_rate(reading, "H2D", 100.0, 4) == approx(87.5)


def test_a_background_that_ends_early_says_nothing():
    assert background_rate(ProbeReading(marked(0, 0.0, 1.0, 2.9), 0.0, {}), "H2D", 100.0, 2) is None


def test_the_slowest_rank_gives_the_rate():
    reading = ProbeReading(marked(0, 0.0, 2.0, 4.0) | marked(1, 0.0, 4.0, 8.0), 0.0, {})
    assert background_rate(reading, "H2D", 100.0, 2) == approx(25.0)


def test_copies_on_one_rank_are_rated_there():
    # The other rank records the same events, with nothing between them.
    reading = ProbeReading(marked(0, 0.0, 2.0, 4.0) | marked(1, 0.0, 0.0, 0.0), 0.0, {})
    assert background_rate(reading, "H2D", 100.0, 2) is None
    assert background_rate(reading, "H2D", 100.0, 2, only_rank=0) == approx(50.0)


def test_accesses_and_copies_beside_them_are_counted_over_the_accesses_own_window():
    # Six copies of 50 bytes a second each; the accesses take seconds 1.5 to 4 of them and move 100 bytes.
    ends = [float(i) for i in range(7)]
    assert rates_inside(1.5, 4.0, 100.0, ends, 50.0) == AccessRates(accesses=40.0, copies=50.0)


@pytest.mark.parametrize(("begin", "end"), [(1.5, 5.0), (-0.5, 1.0), (5.5, 6.5)])
def test_copies_that_last_less_than_twice_as_long_or_do_not_surround_the_accesses_say_nothing(begin, end):
    assert rates_inside(begin, end, 100.0, [float(i) for i in range(7)], 50.0) is None


def test_accesses_beside_copies_that_ended_early_leave_no_reading():
    bench = types.SimpleNamespace(sm_rates=lambda *_, **__: next(answers))
    config: Configuration = {"direction": "read", "blocks": 2, "beside": "H2D"}
    answers = iter([AccessRates(10.0, 40.0), None, AccessRates(12.0, 38.0)])
    assert PROBE["sm-read"].measure(bench, config, 3) == {"rate": [10.0, 12.0], "copy_rate": [40.0, 38.0]}
    answers = iter([None])
    assert PROBE["sm-read"].measure(bench, config, 1) == {"rate": [], "copy_rate": []}


# --- all probes


class Recorder(SimulatedBench):
    """Keeps the programs that it runs."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.programs: list[tuple[tuple[Command, ...], bool]] = []

    def run(self, commands: tuple[Command, ...], **options: Any) -> ProbeReading:
        self.programs.append((commands, options.get("gated", True)))
        exchanges = any(isinstance(command, Collective) for command in commands)
        return super().run(commands, **{**options, "only_rank": None if exchanges else options.get("only_rank")})


@cache
def recorded(name: str) -> tuple[tuple[ProbeSample, ...], Recorder]:
    """All configurations of all probes on a node, with their programs; of one-rank copies, as if on all ranks."""
    bench = Recorder(NODES[name])
    samples: list[ProbeSample] = []
    for mode in ("quick", "full"):
        samples += simulated_samples(bench, mode)[0]
    return tuple(samples), bench


@pytest.mark.parametrize("name", NODES)
def test_every_configuration_reads_something_and_nothing_negative(name):
    samples, _ = recorded(name)
    expected = {p.key for p in PROBES if not p.can_run(inventory_of(NODES[name]))}
    assert {sample.probe for sample in samples} == expected
    for sample in samples:
        assert sample.readings, sample
        for values in sample.readings.values():
            assert values, sample
            assert min(values) >= 0, sample


@pytest.mark.parametrize("name", NODES)
def test_every_program_of_a_probe_is_sound(name):
    programs = {commands for commands, _ in recorded(name)[1].programs}
    for commands in programs:
        found = [p for p in problems(program_of(commands, NODES[name].gpus)) if "never freed" not in p.message]
        assert found == []


@pytest.mark.parametrize("name", NODES)
def test_no_gated_program_overfills_a_stream(name):
    for commands, gated in recorded(name)[1].programs:
        if gated:
            assert max(queued(commands).values(), default=0) <= STREAM_HOLDS


def queued(commands: tuple[Command, ...]) -> Counter[str]:
    """What each stream is given: a command for every kernel and every call."""
    found: Counter[str] = Counter()
    for command in commands:
        stream = stream_of(command)
        if stream is not None:
            parts = len(command.kernels) if isinstance(command, Compute) else 1
            found[stream] += command.calls if isinstance(command, Copy) else parts
    return found


@pytest.mark.parametrize("name", NODES)
def test_copies_have_memory_on_both_sides_and_kernels_what_they_work_in(name):
    for commands, _ in recorded(name)[1].programs:
        allocated = {
            getattr(c, "buffer", ""): getattr(c, "bytes", 0.0) for c in commands if type(c).__name__ == "Allocate"
        }
        for command in commands:
            if isinstance(command, Copy):
                assert allocated[command.buffer] >= command.bytes
                assert allocated[f"{command.buffer} on host"] >= command.bytes
            if isinstance(command, Compute):
                for kernel in command.kernels:
                    assert_room(kernel, allocated)


def assert_room(kernel: Kernel, allocated: dict[str, float]) -> None:
    """Activations hold input and output, weights the right operand; packed weights and what they become are apart."""
    kernel_class, shape = kernel.kernel_class, kernel.shape
    if kernel_class == "unpack":
        assert allocated["packed"] + allocated["unpacked"] == kernel.bytes
        assert allocated["packed"] / allocated["unpacked"] == kernel.size / 16
    elif kernel_class == "gemm":
        rows, inputs, outputs = shape
        assert allocated["activations"] >= 2 * rows * (inputs + outputs)
        assert allocated["weights"] >= 2 * inputs * outputs
    elif kernel_class == "attention":
        samples, heads, queries, keys, width = shape
        assert allocated["activations"] >= 2 * samples * heads * width * (queries + 2 * keys)
    elif kernel_class == "relayout":
        assert allocated["activations"] >= 4 * shape[0] * shape[1] * shape[2]
    else:
        assert allocated["activations"] >= shape[0] * shape[1]


def test_keys_and_titles_tell_probes_apart():
    assert len(PROBE) == len(PROBES) == len({probe.title for probe in PROBES})


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("mode", ["quick", "full"])
def test_no_configuration_comes_twice(name, mode):
    for probe in PROBES:
        configs = [tuple(sorted(c.items())) for c in probe.configurations(mode, inventory_of(NODES[name]))]
        assert len(set(configs)) == len(configs), probe.key


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.key)
@pytest.mark.parametrize("mode", ["quick", "full"])
def test_what_is_held_out_leaves_enough_to_fit(probe: Probe, mode):
    configs = probe.configurations(mode, inventory_of(NODES["host memory"]))
    held_out = sum(map(probe.held_out, configs))
    assert held_out <= len(configs) / 2


@pytest.mark.parametrize("key", ["h2d", "d2h", "gemm", "attention", "elementwise", "relayout", "all-to-all"])
def test_sweeps_hold_a_tenth_to_a_third_of_their_configurations_out(key):
    configs = PROBE[key].configurations("full", inventory_of(NODES["host memory"]))
    assert len(configs) / 10 <= sum(map(PROBE[key].held_out, configs)) <= len(configs) / 3


@pytest.mark.parametrize("mode", ["quick", "full"])
@pytest.mark.parametrize("key", ["all-to-all", "all-gather"])
def test_collectives_are_fitted_up_to_their_largest_size(key, mode):
    configs = PROBE[key].configurations(mode, inventory_of(NODES["host memory"]))
    fitted = [config["bytes"] for config in configs if not PROBE[key].held_out(config)]
    assert len(fitted) >= 3
    assert max(fitted) == max(config["bytes"] for config in configs)


def estimated(name: str, mode: str, *, several: bool) -> float:
    """Seconds of all probes of one kind on a node."""
    node = inventory_of(NODES[name])
    chosen = [probe for probe in PROBES if probe.several_gpus == several and probe.key not in OWN_KERNELS]
    return sum(p.estimated_seconds(mode, c) for p in chosen for c in p.configurations(mode, node))  # type: ignore[arg-type]


def test_one_gpu_takes_four_minutes_and_two_take_three_more_for_each_transport():
    assert estimated("one GPU", "full", several=False) <= 240
    assert estimated("one GPU", "quick", several=False) <= 60
    for name in ("host memory", "NVLink"):
        assert estimated(name, "full", several=True) <= 180
        assert estimated(name, "quick", several=True) <= 60


# --- what is identified

NOT_PROBED = {
    "gpu.memory": "read from the driver",
    "gpu.context": "read from the driver",
    "gpu.workspace": "read from the framework's allocator",
    "gpu.clock.limit": "read from the driver",
    "gpu.clock.averaging": "the same on all chips that were watched",
    "host.memory": "read from the kernel",
    "host.cross_socket": "needs two sockets",
    "wiring.switches.h2d": "needs a switch",
    "wiring.switches.d2h": "needs a switch",
    "wiring.nvlink.send": "a collective's rate is below it",
    "wiring.nvlink.receive": "a collective's rate is below it",
}


def values(struct: type, path: str = "") -> Iterator[str]:
    """Paths of all quantities and curves that a node may have."""
    for name, hint in get_type_hints(struct).items():
        kind = _inner(hint)
        if kind in (Quantity, Curve):
            yield path + name
        elif isinstance(kind, type) and issubclass(kind, Struct):
            yield from values(kind, f"{path}{name}.")


def _inner(hint: Any) -> Any:
    """What a field holds: inside unions with None, tuples and dictionaries."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _inner(next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        return _inner(arguments[0])
    return _inner(arguments[1]) if origin is dict else hint


def covered(path: str, name: str) -> bool:
    """Whether a probe that identifies `name` identifies the value at `path`."""
    return path == name or path.startswith(f"{name}.")


def test_every_value_of_a_node_is_identified_by_a_probe_or_known_not_to_be():
    found = [name for probe in PROBES for name in probe.identifies]
    left = {path for path in values(Node) if not any(covered(path, name) for name in found)}
    assert left == set(NOT_PROBED)


def test_probes_identify_only_what_a_node_has():
    paths = list(values(Node))
    named = {name for probe in PROBES if probe.key not in OWN_KERNELS for name in probe.identifies}
    missing = {name for name in named if not any(covered(path, name) for path in paths)}
    assert missing == {"the copy engine's order (a rule)", "collectives beside copies (a check)"}
