"""`offsim calibrate`: what happens when probes hang, processes die, disks are full and people interrupt."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calibration.calibrate import command as verb
from calibration.calibrate.command import CalibrateOptions, calibrate_command, probe_groups
from calibration.calibrate.worker_process import run_workers
from calibration.probes.probe import Probe
from calibration.samples import inventory
from calibration.samples.inventory import (
    Gpu,
    Inventory,
    NoGPU,
    refuse_busy_gpus,
    take_inventory,
    transport_of,
    visible_gpus,
)
from calibration.samples.sample_file import Header, SampleFile
from offsim.cli import dispatch
from offsim.scenario.faults import ScenarioError

ROOT = Path(__file__).parents[2]
MACHINE = Inventory("H200", 1, "9.0", 1e11, "580", 700.0, "a processor", 16, 1e11, "abc")

WORKER = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from calibration.samples.sample_file import ProbeSample, SampleFile, sample_key
from tests.unit.test_calibrate import PROBES
file, keys, behaviour = SampleFile(Path(sys.argv[1])), sys.argv[2].split(","), sys.argv[3]
def say(**event): print(json.dumps(event), flush=True)
done = file.done()
for probe in PROBES:
    if probe.key not in keys:
        continue
    for config in probe.configurations("full", None):
        if sample_key(probe.key, config) in done:
            continue
        say(event="begin", probe=probe.key, config=config)
        if probe.key == "hangs":
            time.sleep(60)
        if behaviour == "dies" and probe.key == "second":
            sys.exit("CUDA error: GPU has fallen off the bus")
        if behaviour == "full disk" and probe.key == "second":
            raise OSError(28, "No space left on device")
        if behaviour == "slow":
            time.sleep(0.3)
        file.append(ProbeSample(probe.key, config, {{"seconds": [1.0]}}, False, 0, {{}}, "now", "none"))
        say(event="sample", probe=probe.key, n=1, of=2)
say(event="done")
"""


class Fake(Probe):
    """Two configurations."""

    title, identifies = "fake", ("nothing",)

    def __init__(self, key: str) -> None:
        self.key = key  # type: ignore[misc]

    def configurations(self, mode, node):
        return [{"n": 1}, {"n": 2}]

    def measure(self, bench, config, repeats):
        return {}


PROBES = tuple(Fake(key) for key in ("first", "hangs", "second"))
GOOD = (PROBES[0], PROBES[2])


@pytest.fixture
def file(tmp_path):
    made = SampleFile(tmp_path / "samples.jsonl")
    made.begin(Header("full", "abc", MACHINE, "2026-01-01", "none"))
    return made


@pytest.fixture
def command(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(root=str(ROOT)))

    def make(behaviour):
        return lambda file, probes, mode, inventory: [
            sys.executable, str(script), str(file), ",".join(probes), behaviour,
        ]  # fmt: skip

    return make


def measured(file: SampleFile) -> list[tuple[str, object]]:
    return [(s.probe, s.config["n"]) for s in file.samples()]


ALL = [("first", 1), ("first", 2), ("second", 1), ("second", 2)]


def test_every_configuration_is_measured_once(file, command):
    outcome = run_workers(file.path, GOOD, "full", MACHINE, 30, command("works"))
    assert (measured(file), outcome.waived, outcome.failure) == (ALL, {}, "")
    run_workers(file.path, GOOD, "full", MACHINE, 30, command("works"))
    assert measured(file) == ALL


def test_a_probe_that_hangs_is_given_up_and_the_rest_goes_on(file, command):
    outcome = run_workers(file.path, PROBES, "full", MACHINE, 5, command("works"))
    assert measured(file) == ALL
    assert outcome.waived == {"hangs": "showed nothing for 5 s"}


def test_a_gpu_that_disappears_ends_in_one_sentence_and_keeps_what_was_measured(file, command):
    outcome = run_workers(file.path, GOOD, "full", MACHINE, 30, command("dies"))
    assert measured(file) == ALL[:2]
    assert "fallen off the bus" in outcome.failure
    assert outcome.failure.count("\n") == 0
    run_workers(file.path, GOOD, "full", MACHINE, 30, command("works"))
    assert measured(file) == ALL


def test_a_full_disk_says_so_and_leaves_the_samples_readable(file, command):
    outcome = run_workers(file.path, GOOD, "full", MACHINE, 30, command("full disk"))
    assert "No space left on device" in outcome.failure
    assert measured(file) == ALL[:2]


def script(text: str, *arguments: str):
    return lambda file, probes, mode, inventory: [sys.executable, "-c", text, str(file), *arguments]


def test_a_worker_that_says_nothing_from_its_start_is_given_up_after_two(file, tmp_path):
    silent = script("import sys, time; print(1, file=open(sys.argv[2], 'a')); time.sleep(60)", str(tmp_path / "starts"))
    outcome = run_workers(file.path, GOOD, "full", MACHINE, 2, silent)
    assert outcome.failure == "the measuring process showed nothing for 2 s twice (signal 9)"
    assert (tmp_path / "starts").read_text() == "1\n1\n"


def test_what_a_library_prints_does_not_count_as_an_event(file):
    chatty = script("import time\nfor _ in range(600): print('still here', flush=True); time.sleep(0.1)")
    assert "showed nothing for 2 s" in run_workers(file.path, GOOD, "full", MACHINE, 2, chatty).failure


def test_a_line_that_a_worker_leaves_torn_does_not_spoil_the_next_workers_samples(file, command):
    tear = """import sys; open(sys.argv[1], 'ab').write(b'{"probe": "fi'); sys.exit("No space left on device")"""
    commands = iter([script(tear), command("works")])
    outcome = run_workers(file.path, GOOD, "full", MACHINE, 30, lambda *rest: next(commands)(*rest))
    assert (measured(file), outcome.failure) == (ALL, "")


def test_ranks_that_leave_the_launchers_process_group_are_ended_too(file, tmp_path):
    rank = "import time; time.sleep(60)"
    launcher = (
        "import json, subprocess, sys, time\n"
        f"rank = subprocess.Popen([sys.executable, '-c', {rank!r}], start_new_session=True)\n"
        "open(sys.argv[2], 'w').write(str(rank.pid))\n"
        "print(json.dumps({'event': 'begin', 'probe': 'hangs'}), flush=True)\n"
        "time.sleep(60)"
    )
    began = time.monotonic()
    outcome = run_workers(file.path, PROBES[1:2], "full", MACHINE, 3, script(launcher, str(tmp_path / "pid")))
    assert time.monotonic() - began < 30
    assert outcome.waived == {"hangs": "showed nothing for 3 s"}
    assert ended(int((tmp_path / "pid").read_text()))


def ended(pid: int) -> bool:
    """Gone, or waiting for its parent to notice, within five seconds: a kill takes a moment."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_ends_the_worker_and_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    seen = []

    def interrupted(self, limit_seconds):
        seen.append(self.process.pid)
        raise KeyboardInterrupt

    here(monkeypatch, tmp_path)
    monkeypatch.setattr("calibration.calibrate.worker_process.Worker.next_event", interrupted)
    order = CalibrateOptions("full", tmp_path / "out", False, False, 30.0)
    assert calibrate_command(order, script("import time; time.sleep(60)")) == 130
    assert f"the same command with --out {tmp_path / 'out'} goes on" in capsys.readouterr().err
    assert len(seen) == 1 and ended(seen[0])


def here(monkeypatch, folder: Path) -> None:
    """A machine with one GPU and few probes."""
    fake_nvidia_smi(folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    monkeypatch.setattr(verb, "PROBES", GOOD)


def test_another_machines_samples_are_refused_before_anything_runs(monkeypatch, tmp_path):
    here(monkeypatch, tmp_path)
    old = SampleFile(tmp_path / "out" / "samples-1-gpu.jsonl")
    old.begin(Header("full", "other", MACHINE, "2026-01-01", "none"))
    order = CalibrateOptions("full", tmp_path / "out", False, False, 30.0)
    with pytest.raises(ScenarioError, match="give another --out"):
        calibrate_command(order, lambda *_: pytest.fail("started"))


def test_too_little_for_a_profile_still_says_what_was_not_measured(capsys, monkeypatch, tmp_path, command):
    here(monkeypatch, tmp_path)
    monkeypatch.setattr(verb, "PROBES", PROBES)
    with pytest.raises(ScenarioError, match="too little measured"):
        calibrate_command(CalibrateOptions("full", tmp_path / "out", False, False, 3.0), command("works"))
    assert "showed nothing for 3 s" in capsys.readouterr().out


def test_without_torch_one_sentence_says_what_to_install(capsys, monkeypatch, tmp_path):
    here(monkeypatch, tmp_path)
    monkeypatch.setattr(verb, "find_spec", lambda _: None)
    assert dispatch(["calibrate", "--no-kernels", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "offsim: calibrate needs torch: pip install 'offsim[live]'\n"
    assert not (tmp_path / "out").exists()


def test_a_calibration_that_is_killed_goes_on_where_it_stopped(file, command, tmp_path):
    code = (
        "import sys; from pathlib import Path; from calibration.calibrate.worker_process import run_workers\n"
        "from tests.unit.test_calibrate import GOOD, MACHINE\n"
        f"script = {str(tmp_path / 'worker.py')!r}\n"
        "command = lambda f, p, m, i: [sys.executable, script, str(f), ','.join(p), 'slow']\n"
        f"run_workers(Path({str(file.path)!r}), GOOD, 'full', MACHINE, 30, command)"
    )
    running = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while not measured(file):
        time.sleep(0.05)
    running.kill()
    running.wait()
    assert 0 < len(measured(file)) < 4
    time.sleep(1.5)  # this fake worker does not watch its standard input: let it end
    run_workers(file.path, GOOD, "full", MACHINE, 30, command("works"))
    assert sorted(set(measured(file))) == ALL


def test_no_gpu_is_one_sentence_and_exit_code_2(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dispatch(["calibrate"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no NVIDIA GPU here" in error


def test_a_dry_run_lists_the_probes_without_a_gpu(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    assert dispatch(["calibrate", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "copy-collective" in out and "needs two GPUs or more" in out


def fake_nvidia_smi(folder: Path) -> None:
    script = folder / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "--query-gpu=index,utilization*) echo '0, [N/A]';;\n"
        "--query-gpu*) echo '0, GPU-1, NVIDIA H200, 580.1, 700.00, 143771, 9.0';;\n"
        "esac\n"
    )
    script.chmod(0o755)


def looks(monkeypatch, *percents: float) -> None:
    """nvidia-smi says these one after the other, of two GPUs of which the first idles."""
    answers = iter(percents)
    monkeypatch.setattr(inventory, "_utilization", lambda: {"0": 0.0, "1": next(answers)})
    monkeypatch.setattr(inventory, "APART", 0.0)


def test_nothing_is_measured_beside_what_runs_on_a_gpu_already(monkeypatch):
    looks(monkeypatch, 100.0, 97.0, 100.0)
    with pytest.raises(ScenarioError, match=r"^calibrate: GPU 1 is 97 % at work already: .* CUDA_VISIBLE_DEVICES$"):
        refuse_busy_gpus("calibrate")


@pytest.mark.parametrize("percents", [(5.0,), (100.0, 60.0, 3.0)])
def test_a_screen_and_what_has_just_ended_are_no_reason_to_refuse(monkeypatch, percents):
    looks(monkeypatch, *percents)
    refuse_busy_gpus("replay")


def test_without_nvcc_the_rest_is_measured_and_the_waived_probes_say_why(capsys, monkeypatch, tmp_path, command):
    fake_nvidia_smi(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(verb, "PROBES", GOOD)
    monkeypatch.setattr(verb, "built_library", _no_kernels)
    monkeypatch.setattr(verb, "fit_profile", lambda paths, name: _fitted(paths))
    order = CalibrateOptions("full", tmp_path / "out", True, False, 30.0)
    assert calibrate_command(order, command("works")) == 0
    shown = capsys.readouterr()
    assert "no nvcc" in shown.err
    assert (tmp_path / "out" / "profile.toml").read_text() == "4 samples"
    assert "1 x NVIDIA H200" in shown.out


def _no_kernels(native):
    from calibration.kernels.build import KernelsUnavailable

    raise KernelsUnavailable("no nvcc", "install it")


def _fitted(paths):
    from calibration.fit.profile import Fitted
    from calibration.fit.summary import SummaryRow

    count = sum(len(SampleFile(path).samples()) for path in paths)
    return Fitted(f"{count} samples", [SummaryRow("pcie.h2d", "55 GBps", "54 to 56", "0.1 %", 9, "")])


def test_two_gpus_are_measured_alone_and_together_and_nothing_set_for_nccl_is_dropped():
    two = MACHINE.using(2, "nvlink")
    single, both = probe_groups(two, CalibrateOptions("full", None, False, True, 60.0))
    assert single.inventory.gpus == 1 and not any(p.several_gpus for p in single.probes)
    assert (both.file, both.environment) == ("samples-host-memory.jsonl", {"NCCL_P2P_DISABLE": "1"})
    assert {p.key for p in both.probes} >= {"all-to-all", "copy-collective", "overheads"}


@pytest.mark.parametrize(("said", "transport"), [("1", "host-memory"), ("0", "nvlink"), (None, "nvlink")])
def test_the_environments_nccl_setting_decides_the_transport_unless_told_otherwise(
    monkeypatch, tmp_path, command, said, transport
):
    two = MACHINE.using(2, "nvlink")
    monkeypatch.setattr(verb, "take_inventory", lambda: two)
    monkeypatch.setattr(verb, "PROBES", GOOD)
    monkeypatch.setattr(verb, "fit_profile", lambda paths, name: _fitted(paths))
    monkeypatch.setenv("NCCL_P2P_DISABLE", said) if said else monkeypatch.delenv("NCCL_P2P_DISABLE", raising=False)
    assert calibrate_command(CalibrateOptions("full", tmp_path, False, False, 30.0), command("works")) == 0
    profile = "profile-host-memory.toml" if transport == "host-memory" else "profile.toml"
    assert {path.name for path in tmp_path.glob("*.*l*")} >= {f"samples-{transport}.jsonl", profile}
    assert SampleFile(tmp_path / f"samples-{transport}.jsonl").header().transport == transport


def test_two_calibrations_into_one_folder_are_one_sentence(monkeypatch, tmp_path, command):
    here(monkeypatch, tmp_path)
    with SampleFile(tmp_path / "out" / "samples-1-gpu.jsonl").locked(), pytest.raises(ScenarioError, match="another"):
        calibrate_command(CalibrateOptions("full", tmp_path / "out", False, False, 30.0), command("works"))


def test_quick_and_full_calibrations_have_folders_of_their_own(monkeypatch, tmp_path, command):
    here(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "fit_profile", lambda paths, name: _fitted(paths))
    for mode in ("quick", "full"):
        assert calibrate_command(CalibrateOptions(mode, None, False, False, 30.0), command("works")) == 0
    headers = [SampleFile(path).header() for path in sorted(tmp_path.glob("offsim-results/*/samples-1-gpu.jsonl"))]
    assert [header.mode for header in headers] == ["full", "quick"]
    with pytest.raises(ScenarioError, match="holds samples of a quick calibration"):
        folder = next(tmp_path.glob("offsim-results/*-quick"))
        calibrate_command(CalibrateOptions("full", folder, False, False, 30.0), command("works"))


def test_a_power_limit_that_the_driver_does_not_tell_is_no_error(monkeypatch, tmp_path):
    here(monkeypatch, tmp_path)
    script = tmp_path / "nvidia-smi"
    script.write_text(script.read_text().replace("700.00", "[N/A]"))
    assert take_inventory().power_limit_watts == 0
    script.write_text(script.read_text().replace("143771", "[N/A]"))
    with pytest.raises(NoGPU, match=r"memory\.total \[N/A\]"):
        take_inventory()


FOUR = [Gpu(str(i), f"GPU-{i}abc", "A100", "580", "400", "81920", "8.0") for i in range(4)]


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [(None, "0123"), ("2,0", "20"), ("GPU-1,3", "13"), ("1,7,2", "1"), ("1, 2", "12"), ("0,0", "0")],
)
def test_only_gpus_that_cuda_shows_are_there(chosen, shown):
    assert "".join(gpu.number for gpu in visible_gpus(FOUR, chosen)) == shown


@pytest.mark.parametrize("chosen", ["", "-1", "9", "GPU-"])
def test_no_visible_gpu_is_one_sentence(chosen):
    with pytest.raises(NoGPU, match=f"CUDA_VISIBLE_DEVICES={chosen} shows none of this machine's GPUs"):
        visible_gpus(FOUR, chosen)


def topology(*rows: str) -> str:
    """What `nvidia-smi topo -m` prints: a header with escapes, rows with affinities, a legend that names every link."""
    header = "\t\x1b[4m" + "\t".join(f"GPU{i}" for i in range(len(rows))) + "\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m"
    lines = [f"GPU{i}\t{row}\tSYS\t0-31\t0" for i, row in enumerate(rows)]
    legend = "Legend:\n  X    = Self\n  SYS  = across NUMA\n  PIX  = one PCIe bridge\n  NV#  = NVLinks"
    return "\n".join([header, *lines, "NIC0\t" + "SYS\t" * len(rows) + " X", "", legend])


PAIRS = topology(" X \tNV4\tSYS\tSYS", "NV4\t X \tSYS\tSYS", "SYS\tSYS\t X \tNV4", "SYS\tSYS\tNV4\t X ")
MIXED = topology(" X \tNV4\tPIX", "NV4\t X \tPXB", "PIX\tPXB\t X ")


@pytest.mark.parametrize(
    ("text", "gpus", "transport"),
    [
        (PAIRS, "0123", "host-memory"),
        (PAIRS, "01", "nvlink"),
        (PAIRS, "12", "host-memory"),
        (MIXED, "012", "pcie"),
        (MIXED, "01", "nvlink"),
        ("", "01", "host-memory"),
    ],
)
def test_gpus_together_are_as_fast_as_their_worst_pair(text, gpus, transport):
    assert transport_of(text, list(gpus)) == transport


@pytest.mark.parametrize("amid_imports", [True, False])
def test_a_live_worker_ends_with_whoever_started_it(amid_imports, tmp_path):
    pytest.importorskip("torch", reason="live runs need torch: pip install -e '.[live]'")
    path = tmp_path / "samples.jsonl"
    SampleFile(path).begin(Header("quick", "abc", MACHINE, "2026-01-01", "none"))
    arguments = ["--samples", str(path), "--probes", "gemm", "--mode", "quick", "--cpu"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "calibration.calibrate.tied", "calibration.live.worker", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert worker.stdin is not None and worker.stdout is not None
    if not amid_imports:
        assert json.loads(worker.stdout.readline())["event"] == "begin"
    worker.stdin.close()
    assert worker.wait(timeout=2) == 1
    worker.stdout.close()
