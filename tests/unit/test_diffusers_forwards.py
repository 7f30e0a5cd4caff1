"""The script that measures the real library, on a tiny model and a CPU: what it writes, what failing modes leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install -e '.[libraries]'")
pytest.importorskip("diffusers", reason="needs diffusers: pip install -e '.[libraries]'")

from calibration.live.diffusers_forwards.forwards import ForwardPair
from calibration.live.diffusers_forwards.trace import trace_summary

ROOT = Path(__file__).parents[2]


def run(out: Path, *arguments: str) -> list[dict]:
    """The script in a process of its own; its lines."""
    command = [sys.executable, "-m", "calibration.live.diffusers_forwards", "--cpu", "--out", str(out), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=True)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_every_mode_leaves_a_line_with_raw_seconds_and_a_failing_one_its_error(tmp_path):
    # Streams are not to be had on a CPU: that mode fails, the ones after it are measured all the same.
    modes = ("block-stream", "sequential", "block")
    lines = run(tmp_path / "out.jsonl", "--modes", *modes, "--tokens", "12", "--limit-s", "100")
    about, resident, costs, small, elementwise, failed, sequential, block = lines
    assert {name: len(small[name]) for name in ("resident", "sequential", "block")} == dict.fromkeys(
        ("resident", "sequential", "block"), 9
    )
    assert elementwise["per_block"]["rotation"] == 2
    assert small["block-stream error"].startswith("ValueError")
    assert (about["versions"]["diffusers"], about["attention_backend"]) == ("0.42.1", "AttentionBackendName.NATIVE")
    assert costs["record"] == "diffusers-forwards-costs"
    assert (resident["mode"], len(resident["resident_s"][0])) == ("resident", 2)
    assert (failed["mode"], failed["error"].split(":")[0]) == ("block-stream", "ValueError")
    assert (sequential["mode"], block["mode"]) == ("sequential", "block")
    assert block["order"] == "RMMR"
    assert [len(block["resident_s"]), len(block["mode_s"])] == [2, 2]
    assert all(seconds > 0 for run in block["mode_s"] for seconds in run)


def test_nothing_is_begun_after_the_limit(tmp_path):
    lines = run(tmp_path / "out.jsonl", "--modes", "block", "--tokens", "12", "24", "--limit-s", "0")
    assert [line["error"] for line in lines if line.get("mode") == "block"] == ["out of time"] * 2


def test_slow_forwards_are_run_once_between_resident_ones():
    """0.25 s resident: six make 1.5 s. A mode of 9 s once a run: 2 (1.5 + 9) = 21 s for two runs."""
    pair = ForwardPair(lambda: None, lambda: None, 0.25, 9.0)
    assert pair.counts() == {"R": 6, "M": 1}
    assert (pair.order(21.5), pair.order(20.5)) == ("RMMR", "RMR")


def test_a_profile_counts_kernels_side_by_side_once():
    """Kernels 0..2 and 1..3, a copy 2..5 beside the second; the host waits 4 s in two calls."""
    events = [("gemm", True, 0.0, 2.0), ("norm", True, 1.0, 3.0), ("Memcpy HtoD (Pinned -> Device)", True, 2.0, 5.0)]
    events += [("cudaStreamSynchronize", False, 0.0, 1.0), ("cudaStreamSynchronize", False, 2.0, 5.0)]
    found = trace_summary(events)
    assert found["busy_s"] == {"kernels": 3.0, "H2D": 3.0, "D2H": 0}
    assert (found["kernels_beside_H2D_s"], found["any_s"], found["device_span_s"]) == (1.0, 5.0, 5.0)
    assert found["host"] == [("cudaStreamSynchronize", 2, 4.0)]
