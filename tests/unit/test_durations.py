"""Durations of kernels by hand: unpacking, which has a rate of its own and otherwise counts as elementwise."""

import pytest
from msgspec.structs import replace

from offsim.engine.durations import Durations, kernel_energy
from offsim.program.commands import Compute, Kernel
from offsim.program.roofline import kernel_duration
from offsim.program.systems.resident import Resident
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise
from offsim.program.systems.scheduled_layerwise.transfer import unpacking
from offsim.results.predict import predict
from offsim.scenario.load import load_model, load_node
from offsim.scenario.scenario import Scenario
from offsim.scenario.workload import Workload
from tests.strategies import curve, quantity
from tests.unit.probed_nodes import gpu, one_gpu

HALVED, QUARTERED = unpacking(0.5e9, 1e9), unpacking(0.25e9, 1e9)
BLOCK = 702_788_608
"""Bytes of a Wan-14B block."""


def test_a_product_of_few_rows_takes_the_time_of_its_weights():
    """4 GB at 4 TB/s, though its 1 GFLOP takes 2 us at 500 TFLOP/s."""
    assert kernel_duration(Kernel("gemm", 1e9, 4e9, 8.0), gpu()) == pytest.approx(1e-3)


@pytest.mark.parametrize(("kernel", "milliseconds"), [(HALVED, 0.75), (QUARTERED, 1.25)])
def test_unpacking_takes_its_bytes_over_the_rate_of_its_bits(kernel, milliseconds):
    """1.5 GB at 2 TB/s, 1.25 GB at 1 TB/s."""
    assert kernel_duration(kernel, gpu(curve((4, 1e12), (8, 2e12)))) == pytest.approx(1e-3 * milliseconds)


@pytest.mark.parametrize(("packing", "seconds"), [(0.5, 0.933e-3), (0.25, 1.037e-3)])
def test_where_no_probe_told_a_wan_block_takes_a_millisecond_from_8_bits_and_somewhat_more_from_4(packing, seconds):
    assert kernel_duration(unpacking(packing * BLOCK, BLOCK), gpu()) == pytest.approx(seconds, rel=1e-3)


def test_unpacking_is_no_faster_than_an_elementwise_kernel():
    """A guess that comes from an H100 would be on a GPU whose memory is slower: 1.5 GB at 1 TB/s."""
    slow = replace(gpu(), memory_bandwidth=quantity(1e12))
    assert kernel_duration(HALVED, slow) == pytest.approx(1.5e-3)
    by_size = replace(gpu(), elementwise=curve((1.5e9, 0.5e12)))
    assert kernel_duration(HALVED, by_size) == pytest.approx(3e-3)


def test_to_clock_and_interference_unpacking_is_an_elementwise_kernel_with_the_energy_of_its_bytes():
    node = load_node("calibration/nodes/h100-x1-a/profile.toml")
    clock = node.gpu.clock
    assert clock is not None
    assert kernel_energy(HALVED, clock) == pytest.approx(1.5e9 * clock.energy.byte.value)
    assert kernel_energy(Kernel("relayout", 0.0, 1e9, 1.0), clock) == pytest.approx(1e9 * clock.energy.of_relayout)
    assert clock.energy.of_relayout > 1.5 * clock.energy.byte.value
    scenario = Scenario(load_model("wan2.2-t2v-a14b"), Workload(gpus=1, tokens=64), node, Resident())
    (piece,) = Durations(scenario).pieces(Compute("compute", "unpack", (HALVED,)))
    assert piece.kernel_class == "elementwise"
    assert piece.demand == pytest.approx(kernel_energy(HALVED, clock) / kernel_duration(HALVED, node.gpu))


@pytest.mark.parametrize(("dtype", "told"), [("int8", ["published"]), ("stored", [])])
def test_where_a_rate_is_from_is_told_where_weights_are_unpacked(dtype, told):
    policy = ScheduledLayerwise(transfer_dtype=dtype)
    scenario = Scenario(load_model("wan2.2-t2v-a14b"), Workload(gpus=1, tokens=64), one_gpu(), policy)
    found = [value.provenance for key, value in predict(scenario).in_use if key == "gpu.unpack"]
    assert found == told
