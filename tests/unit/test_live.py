"""The live executor on a CPU that imitates streams: order, waits and results."""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec import structs

torch = pytest.importorskip("torch", reason="live runs need torch: pip install -e '.[live]'")

from calibration.calibrate.command import TYPICAL  # noqa: E402
from calibration.live import replays  # noqa: E402
from calibration.live.bench import LiveBench  # noqa: E402
from calibration.live.communicator import Communicator  # noqa: E402
from calibration.live.contents import BufferContents, expert_layout  # noqa: E402
from calibration.live.device import CpuDevice  # noqa: E402
from calibration.live.executor import Executor  # noqa: E402
from calibration.live.kernels import Activations, Planner, device_copy  # noqa: E402
from calibration.live.own_kernels import FEWEST_COPIES, LiveKernels  # noqa: E402
from calibration.live.replay import Alternating, record_of  # noqa: E402
from calibration.live.session import Session  # noqa: E402
from calibration.probes.kernels_time import UnpackingKernels  # noqa: E402
from calibration.replays.cases import ReplayCase, load_cases  # noqa: E402
from calibration.validate.records import all_records  # noqa: E402
from offsim.cli import dispatch  # noqa: E402
from offsim.engine.garbage import no_garbage_collection  # noqa: E402
from offsim.program.build import build  # noqa: E402
from offsim.program.commands import Collective, CollectiveName, Record, Wait  # noqa: E402
from offsim.program.systems.accelerate_model import AccelerateModel  # noqa: E402
from offsim.program.systems.accelerate_sequential import AccelerateSequential  # noqa: E402
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup  # noqa: E402
from offsim.program.systems.fsdp import FSDP  # noqa: E402
from offsim.program.systems.full_model import FullModel  # noqa: E402
from offsim.program.systems.resident import Resident  # noqa: E402
from offsim.program.systems.scheduled_layerwise.parameters import ScheduledLayerwise  # noqa: E402
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise  # noqa: E402
from offsim.scenario.policy import Policy  # noqa: E402
from tests.golden.tiny import library_scenario, tiny_model  # noqa: E402
from tests.golden.tiny import tiny_scenario as tiny  # noqa: E402

torch.set_num_threads(1)
"""Products of this size are over before a second thread has begun."""
ROOT = Path(__file__).parents[2]
TOKENS = 640
POLICIES: dict[str, Policy] = {
    "layerwise v0": SGLangLayerwise(version="v0"),
    "layerwise v1, three ahead": SGLangLayerwise(version="v1", prefetch=3),
    "layerwise v2": SGLangLayerwise(version="v2"),
    "layerwise v2, everything ahead": SGLangLayerwise(version="v2", prefetch=0.99),
    "layerwise v3, strided residents": SGLangLayerwise(version="v3", resident_layers=2, residency="strided"),
    "layerwise, pageable": SGLangLayerwise(version="v2", pinned=False),
    "full model, pageable": FullModel(version="pageable"),
    "full model, pinned": FullModel(version="pinned"),
    "FSDP on one rank": FSDP(),
    "scheduled, after attention": ScheduledLayerwise(placement="after-attention"),
    "scheduled, 4 chunks on 2 streams": ScheduledLayerwise(chunks=4, copy_streams=2, copy_priority="high"),
    "scheduled, two ahead, residents": ScheduledLayerwise(prefetch=2, resident_layers=2, across_switch="prefetched"),
    "diffusers, block level": DiffusersGroup(),
    "diffusers, block level, stream": DiffusersGroup(stream=True),
    "diffusers, block level, record_stream": DiffusersGroup(stream=True, record_stream=True),
    "diffusers, block level, pinned on use": DiffusersGroup(stream=True, low_cpu_mem_usage=True),
    "accelerate, whole components": AccelerateModel(),
}


def run(policy: Policy, seed: int | None = 1, drop: str = "") -> Executor:
    """Four steps of four tiny blocks and two experts; without the waits for events whose name ends in `drop`."""
    scenario = tiny(policy, tokens=TOKENS)
    program = build(scenario)
    if drop:
        sections = tuple(
            s._replace(commands=tuple(c for c in s.commands if not (isinstance(c, Wait) and c.event.endswith(drop))))
            for s in program.sections
        )
        program = program._replace(sections=sections)
    contents = BufferContents(torch.device("cpu"), expert_layout(scenario))
    rows = (scenario.model.text_tokens,)
    executor = Executor(program, CpuDevice(seed), Communicator(), contents, side_rows=rows, checksums=True)
    executor.timeline = executor.run()
    return executor


@pytest.fixture(scope="module")
def resident() -> list[tuple[str, float]]:
    return run(Resident()).sums


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_policy_computes_what_the_resident_model_computes(name, seed, resident):
    assert run(POLICIES[name], seed).sums == resident


MODULES: dict[str, Policy] = {
    "leaf, stream": DiffusersGroup(level="leaf", stream=True),
    "leaf, stream, record_stream": DiffusersGroup(level="leaf", stream=True, record_stream=True),
    "sequential": AccelerateSequential(),
}


def module_sums(policy: Policy, seed: int | None) -> list[tuple[str, float]]:
    """Three steps of two tiny blocks, module by module."""
    scenario = library_scenario(policy, tokens=TOKENS)
    contents, rows = BufferContents(torch.device("cpu"), expert_layout(scenario)), (scenario.model.text_tokens, 1)
    executor = Executor(build(scenario), CpuDevice(seed), Communicator(), contents, side_rows=rows, checksums=True)
    executor.run()
    return executor.sums


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("seed", [1, 2])
def test_modules_that_come_and_go_compute_what_they_compute_where_every_copy_blocks(name, seed):
    assert module_sums(MODULES[name], seed) == module_sums(DiffusersGroup(level="leaf"), None)


def test_sums_tell_blocks_and_experts_apart(resident):
    by_name = {name: [s for n, s in resident if n == name] for name, _ in resident}
    assert len(set(by_name["blocks.0 ffn"])) > 1 or len({s for _, s in resident}) > len(by_name)
    assert by_name["blocks.1 ffn"][0] != by_name["blocks.2 ffn"][0]


def test_without_its_waits_a_prefetched_block_computes_something_else(resident):
    found = [run(POLICIES["layerwise v2"], seed, drop="ready").sums != resident for seed in range(5)]
    assert any(found)


def test_without_the_wait_for_its_second_stream_a_block_computes_something_else(resident):
    policy = ScheduledLayerwise(chunks=8, copy_streams=2, placement="after-attention")
    found = [run(policy, seed, drop="ready on copy transformer 2").sums != resident for seed in range(4, 8)]
    assert any(found)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_packed_blocks_are_unpacked_into_weights_of_the_usual_size(dtype, resident):
    """Their values are made up, so results differ from the resident model's; they are the same in every order."""
    policy = ScheduledLayerwise(transfer_dtype=dtype, chunks=2)
    first, second = ([pair for pair in run(policy, seed).sums if "unpack" not in pair[0]] for seed in (1, 2))
    assert first == second
    assert [name for name, _ in first] == [name for name, _ in resident]
    assert first != resident and all(abs(one) < 1e6 for _, one in first)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_probe_of_unpacking_runs_the_kernel_that_replays_unpack_with(bits, monkeypatch):
    sizes = []

    def spied(source, target):
        sizes.append((source.numel(), target.numel()))
        device_copy(source, target)
        assert target.view(torch.bfloat16).abs().max() < 1

    monkeypatch.setattr("calibration.live.executor.device_copy", spied)
    bench = LiveBench(Session(CpuDevice(), Communicator()), TYPICAL)
    found = UnpackingKernels().measure(bench, {"bits": bits, "bytes": 16_000}, 2)
    assert len(found["seconds"]) == 2 and min(found["seconds"]) > 0
    assert set(sizes) == {(1_000 * bits, 16_000)}


def test_the_live_timeline_has_the_sections_and_events_of_the_program():
    executor = run(POLICIES["layerwise v2"])
    timeline, program = executor.timeline, executor.program
    assert [w.section for w in timeline.windows] == list(range(len(program.sections)))
    assert all(w.start <= w.end for w in timeline.windows)
    recorded = {c.event for c in program.commands() if isinstance(c, Record)}
    assert {event for _, event in timeline.instants} == recorded


def test_two_ranks_compute_under_every_policy_what_the_resident_model_computes():
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.unit.two_ranks"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *launcher], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    # Two processes write to one pipe: their line ends may come after both words.
    assert "".join(result.stdout.split()) == "samesame", result.stderr[-2000:]


def test_garbage_is_collected_again_after_a_run_that_fails():
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        assert not gc.isenabled()
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_a_second_policy_takes_turns_with_the_first_and_the_resident_run(monkeypatch):
    monkeypatch.setattr("calibration.live.replay.RESIDENT_SECONDS", 0.0)
    policies = ScheduledLayerwise(placement="spread", chunks=4), Resident(), SGLangLayerwise(version="v2")
    session = Session(CpuDevice(), Communicator())
    measured = Alternating(session, *(tiny(policy, tokens=TOKENS) for policy in policies)).measure(parts=True)
    assert [len(steps) for steps in (*measured.policy_steps, *measured.beside_steps)] == [4] * 4
    line = record_of("tiny", {}, measured, "", 1)
    assert line["order"] == ["resident", "beside", "policy"] * 2
    assert line["beside_steps"] == measured.beside_steps
    resident, policy = measured.resident_traced.parts, measured.policy_traced.parts
    kernels = [part.key for part in resident if part.kind == "compute"]
    assert kernels == [part.key for part in policy if part.kind == "compute"]
    assert ("compute", "ffn", 0) in kernels
    assert [part.key for part in resident if part.kind == "H2D"] == []
    assert ("H2D", "transformer.blocks", 0) in [part.key for part in policy]


def test_the_ideas_for_one_gpu_are_replayed_from_the_command_line_and_read_from_its_file(tmp_path, monkeypatch):
    """Their schedules as listed, on narrow blocks and few tokens; the file is read as a measured node's would be."""
    monkeypatch.setattr("calibration.live.replay.RESIDENT_SECONDS", 0.0)
    monkeypatch.setattr("calibration.live.host_read.HOST_READ_BYTES", 2**10)
    monkeypatch.setattr("calibration.replays.cases._model", lambda _, blocks, experts: tiny_model(*blocks, experts))
    monkeypatch.setattr("calibration.live.replays.load_cases", lambda kind, name: few_tokens(load_cases(kind, name)))
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "profile.toml").touch()
    out = tmp_path / "node" / "replays-ideas.jsonl"
    monkeypatch.setattr(sys, "argv", ["replays", "--kind", "x1", "--list", "ideas", "--cpu", "--out", str(out)])
    replays.main()
    records, failures = all_records(tmp_path)
    assert failures == []
    assert [record.case for record in records] == few_tokens(load_cases("x1", "ideas"))
    assert all(len(run) == 6 for record in records for run in (*record.policy_steps, *record.beside_steps))


def few_tokens(cases: list[ReplayCase]) -> list[ReplayCase]:
    return [structs.replace(case, tokens=64) for case in cases]


TINY = """
schema = 2
name = "tiny"
node = "h200-x1"
policy = "sglang-layerwise"

[workload]
tokens = 640
steps = 3
cfg = "none"

[model]
name = "tiny"
title = "tiny Wan"
other_parameters = 1000
source = "made up"

[[model.blocks]]
name = "blocks"
count = 4
architecture = "wan"
parameters = 67136
hidden = 64
heads = 4
head_dim = 16
ffn = 256

[model.text_encoder]
name = "encoder"
parameters = 100000
layers = 4
source = "made up"
"""


def test_a_replay_prints_predicted_beside_measured_and_keeps_both(tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    for _ in range(2):
        assert dispatch(["replay", str(path), "--node", "h200-x1", "--cpu", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("predicted", "measured", "exposed copies", "peak allocated"))
    for folder in ("out", "out-2"):
        measured = json.loads((tmp_path / folder / "measured.json").read_text())
        predicted = json.loads((tmp_path / folder / "predicted.json").read_text())
        assert len(measured["steps"]) == len(predicted["steps"]) == 3


def test_a_replay_on_too_few_processes_says_how_to_start_them(tmp_path, capsys):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("tokens = 640", "tokens = 640\ngpus = 2"))
    assert dispatch(["replay", str(path), "--node", "h200-x2-nvlink", "--cpu"]) == 2
    assert "torchrun --nproc_per_node 2 -m offsim replay" in capsys.readouterr().err


def test_a_replay_that_this_machine_has_no_memory_for_does_not_begin(tmp_path, capsys, monkeypatch):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2}[name])
    assert dispatch(["replay", str(path), "--node", "h200-x1", "--cpu"]) == 2
    assert "and this machine has 0.00; take a tiny model" in capsys.readouterr().err


def test_a_replay_without_a_gpu_is_one_sentence(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    assert dispatch(["replay", str(path), "--node", "h200-x1"]) == 2
    assert capsys.readouterr().err == "offsim: replay: no CUDA GPU here; --cpu runs tiny scenarios without one\n"


def test_copies_beside_accesses_are_doubled_until_they_last_twice_as_long(monkeypatch):
    """Accesses from 0.5 to 9.5 s beside copies of 0.5 s each: 16 last 8 s, 32 last 16 s, 64 last 32 s."""
    kernels = object.__new__(LiveKernels)
    kernels._copies = FEWEST_COPIES
    tried = []

    def timed(self, direction, blocks, moved):
        tried.append(self._copies)
        return (0.5, 9.5), [0.5 * i for i in range(self._copies + 1)]

    monkeypatch.setattr(LiveKernels, "_timed_beside", timed)
    rates = kernels.sm_rates("read", 1, beside_copies=True)
    assert tried == [16, 32, 64]
    assert rates is not None
    assert rates.accesses == pytest.approx(128 * 2**20 / 9)
    assert rates.copies == pytest.approx(64 * 2**20 / 0.5)


@pytest.mark.parametrize(("kind", "bytes_"), [("all-to-all", 1200), ("all-gather", 1200), ("all-reduce", 600)])
def test_a_collective_has_the_buffer_of_which_each_rank_sends_its_bytes(kind: CollectiveName, bytes_: int):
    # Of three ranks each sends 800 bytes: two thirds of its buffer, of an all-reduce's twice.
    planner = Planner(Activations("cpu", buffer=torch.zeros(5000, dtype=torch.bfloat16)))
    source, target = planner.exchange(Collective("compute", "call", kind, 800.0), 3)
    assert source().nbytes == target().nbytes == bytes_
