"""Reading good scenarios: catalogue names, `extends`, merging, units, plain numbers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from offsim.program.load import load_scenario
from offsim.program.systems.fsdp import FSDP
from offsim.program.systems.full_model import FullModel
from offsim.program.systems.resident import Resident
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.scenario import catalogue
from offsim.scenario.load import load_model, load_node
from offsim.scenario.quantity import Curve, Quantity
from offsim.scenario.scenario import RefusedScenario, Scenario

Load = Callable[..., Scenario]
GOOD = Path(__file__).parent.parent / "malformed" / "parts" / "good.toml"


@pytest.fixture
def write(tmp_path: Path) -> Load:
    """Write a scenario (or part of one) beside a copy of the good one, and load it."""
    (tmp_path / "good.toml").write_text(GOOD.read_text())

    def load(text: str, name: str = "mine.toml", *, good: bool = True) -> Scenario:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(('extends = "good.toml"\n' if good else "") + text)
        return load_scenario(tmp_path / name)

    return load


@pytest.mark.parametrize("name", catalogue.names("scenarios"))
def test_catalogue_scenarios_load_under_their_own_name(name: str) -> None:
    assert load_scenario(name).name == name


def test_a_file_loads_to_the_same_scenario_every_time() -> None:
    assert load_scenario(GOOD) == load_scenario(str(GOOD))


def test_catalogue_names_stand_for_their_files(write: Load) -> None:
    names = 'model = "flux.1-dev"\nnode = "rtx4090-x8"\npolicy = "resident"\n'
    scenario = write(names + "[workload]\nwidth = 1024\nheight = 1024\n", good=False)
    assert scenario.model == load_model("flux.1-dev")
    assert scenario.node == load_node("rtx4090-x8")
    assert scenario.policy == Resident()
    assert (scenario.steps, scenario.tokens) == (28, 64 * 64)


def test_units_become_si(write: Load) -> None:
    node = write("[node]\npcie.h2d_GBps = 55.2\npcie.d2h_MBps = 50\nhost.memory_GB = 488\ngpu.memory_GiB = 80\n").node
    assert node.wiring.pcie.h2d.value == 55.2e9
    assert node.wiring.pcie.d2h.value == 50e6
    assert node.host.memory.value == 488_000_000_000
    assert node.gpu.memory.value == 80 * 2**30
    assert node.host.overheads.launch.value == 5e-6
    assert node.gpu.gemm.at(4096) == 500e12
    assert node.gpu.attention["default"].at(512) == 250e12
    assert node.wiring.pcie.h2d.interval is None


def test_every_unit_of_a_kind_means_the_same(write: Load) -> None:
    for key, value in {"memory_GB": 64, "memory_MB": 64_000, "memory_bytes": 64_000_000_000}.items():
        assert write(f"[node.gpu]\n{key} = {value}\n").node.gpu.memory.value == 64e9
    for key, value in {"compile_s": 2, "compile_ms": 2000, "compile_us": 2_000_000}.items():
        assert write(f"[workload]\n{key} = {value}\n").workload.compile == 2.0


def test_an_interval_has_the_unit_of_its_value() -> None:
    h2d = load_scenario(GOOD).node.wiring.pcie.h2d
    assert h2d == Quantity(50e9, "guess", "made up", "700 MB", (49e9, 51e9))


def test_a_plain_number_is_given_by_its_file(write: Load) -> None:
    node = write("[node.wiring.pcie]\nlatency_us = 12\n").node
    assert node.wiring.collectives
    assert node.wiring.pcie.latency == Quantity(12e-6, "given", "mine.toml")
    assert node.wiring.collectives.all_gather.rate == Curve(((1.0, 250e9),), "given", "good.toml")


def test_a_plain_number_drops_the_interval_of_what_it_replaces(write: Load) -> None:
    assert write("[node.wiring.pcie]\nh2d_GBps = 30\n").node.wiring.pcie.h2d == Quantity(30e9, "given", "mine.toml")


def test_another_unit_replaces_the_inherited_value(write: Load) -> None:
    assert write("[node.wiring.pcie]\nh2d_TBps = 0.05\n").node.wiring.pcie.h2d.value == 50e9


def test_tables_merge_deeply(write: Load) -> None:
    good = load_scenario(GOOD)
    scenario = write("[workload]\nsteps = 7\n[node.wiring.collectives.all_to_all]\nweight = 0.5\n")
    assert good.node.wiring.collectives and scenario.node.wiring.collectives
    assert (scenario.workload.steps, scenario.workload.frames) == (7, good.workload.frames)
    assert scenario.node.wiring.collectives.all_to_all.weight.value == 0.5
    assert scenario.node.wiring.collectives.all_to_all.rate == good.node.wiring.collectives.all_to_all.rate
    assert scenario.node.wiring.collectives.all_gather == good.node.wiring.collectives.all_gather
    assert scenario.model == good.model


def test_arrays_replace(write: Load) -> None:
    scenario = write("[node.wiring]\nswitches = []\n[model]\npatch = [1, 1, 1]\n")
    assert scenario.node.wiring.switches == ()
    assert scenario.model.patch == (1, 1, 1)


def test_a_named_table_replaces_the_inherited_one(write: Load) -> None:
    text = 'model = "wan2.1-t2v-1.3b"\n[workload]\nwidth = 832\nheight = 480\nframes = 81\n'
    with pytest.raises(RefusedScenario, match=r"workload\.boundary_ratio=0\.9: wan2\.1-t2v-1\.3b has one expert"):
        write(text)
    assert write('node = "h100-pcie"\n').node == load_node("h100-pcie")


def test_a_table_may_extend_a_catalogue_entry(write: Load) -> None:
    node = write('[node]\nextends = "h100-pcie"\nname = "mine"\nwiring.pcie.duplex = 2\n').node
    original = load_node("h100-pcie")
    assert (node.name, node.wiring.pcie.duplex.value) == ("mine", 2)
    assert (node.gpus, node.wiring.pcie.h2d, node.host) == (8, original.wiring.pcie.h2d, original.host)


def test_paths_are_relative_to_the_file_they_stand_in(write: Load, tmp_path: Path) -> None:
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / "slow.toml").write_text('extends = "base.toml"\nwiring.pcie.h2d_GBps = 10\n')
    (tmp_path / "nodes" / "base.toml").write_text('extends = "h100-pcie"\nname = "base"\n')
    scenario = write('extends = "../good.toml"\nnode = "../nodes/slow.toml"\n', "deeper/mine.toml", good=False)
    assert scenario.node.wiring.pcie.h2d == Quantity(10e9, "given", "slow.toml")
    assert (scenario.node.name, scenario.node.gpus) == ("base", 8)


def test_a_policy_of_another_name_replaces_the_inherited_one(write: Load) -> None:
    assert write('[policy]\nname = "fsdp"\nvae = "resident"\n').policy == FSDP(vae="resident")
    assert write('policy = "full-model"\n').policy == FullModel()


def test_a_policy_of_the_same_name_or_none_merges(write: Load) -> None:
    good = load_scenario(GOOD).policy
    assert isinstance(good, SGLangLayerwise)
    for head in ('[policy]\nname = "sglang-layerwise"\n', "[policy]\n"):
        policy = write(head + "prefetch = 0.5\n").policy
        assert isinstance(policy, SGLangLayerwise)
        assert (policy.prefetch, policy.version, policy.resident_layers) == (0.5, good.version, good.resident_layers)
    assert write('policy = "sglang-layerwise"\n').policy == SGLangLayerwise()


def test_a_chain_of_scenarios_takes_the_last_word(write: Load) -> None:
    write("[workload]\nsteps = 5\nframes = 9\n", "middle.toml")
    scenario = write('extends = "middle.toml"\nname = "last"\n[workload]\nsteps = 6\n', good=False)
    assert (scenario.name, scenario.workload.steps, scenario.workload.frames) == ("last", 6, 9)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.read_bytes().replace(b"\n", b"\r\n"))
    assert load_scenario(path).model == load_scenario(GOOD).model


def test_reading_scenarios_imports_nothing_heavy() -> None:
    heavy = {"numpy", "scipy", "pandas", "simpy", "networkx", "torch"}
    code = f"import sys, offsim.scenario.load; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
