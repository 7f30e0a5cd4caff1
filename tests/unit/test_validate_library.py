"""`offsim validate` on forwards of the diffusers library that the engine made itself."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from calibration.validate.command import validate_command
from calibration.validate.diffusers_prediction import (
    elementwise_bytes,
    forward_error,
    model_of,
    scenario_of,
    with_copy_rates,
    with_elementwise_rate,
    with_launch_cost,
)
from calibration.validate.diffusers_records import ForwardShape, read_forwards
from offsim.program.systems.accelerate_sequential import AccelerateSequential
from offsim.program.systems.diffusers_group.parameters import DiffusersGroup
from offsim.program.systems.resident import Resident
from offsim.results.predict import predict
from offsim.scenario.catalogue import path_of
from offsim.scenario.load import load_node
from offsim.scenario.policy import Policy

SHAPE = ForwardShape(blocks=3, heads=40, head_dim=128, ffn=13824, text_tokens=512, text_width=4096)
SMALL = ForwardShape(blocks=2, heads=2, head_dim=16, ffn=64, text_tokens=4, text_width=16)
MODES: dict[str, Policy] = {
    "block-stream": DiffusersGroup(stream=True),
    "leaf-stream-record": DiffusersGroup(level="leaf", stream=True, record_stream=True),
    "sequential": AccelerateSequential(),
    "block": DiffusersGroup(),
}
TOKENS, LEVEL, WORKSPACE = 8190, 12e9, 1e6
HOOK, LAUNCH = 200e-6, 15e-6


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """What the script would write on a node that the simulator is right about, with costs of hooks and kernels."""
    plain = load_node("h200-x1")
    launch = structs.replace(plain.host.overheads.launch, value=LAUNCH)
    node = plain.with_overheads(structs.replace(plain.host.overheads, launch=launch))
    about = {"shape": SHAPE._asdict(), "workspace_bytes": WORKSPACE}
    small = {"shape": SMALL._asdict(), "tokens": 24, "resident": [last(SMALL, 24, node, Resident())] * 5}
    found: list[dict[str, Any]] = []
    for mode, policy in MODES.items():
        real = structs.replace(policy, hook_cost=HOOK)
        small[mode] = [last(SMALL, 24, node, real)] * 5
        prediction = predict(scenario_of(SHAPE, TOKENS, node, real, 3))
        resident = predict(scenario_of(SHAPE, TOKENS, node, Resident(), 4))
        inputs = 2 * (64 * TOKENS + 512 * 4096)
        allocated = prediction.peak_allocated + LEVEL - WORKSPACE + 2 * inputs
        found.append(
            {
                "record": "diffusers-forwards",
                "mode": mode,
                "policy": msgspec.to_builtins(policy),
                "tokens": TOKENS,
                "first_s": [prediction.steps[0].duration],
                "mode_s": [[step.duration for step in prediction.steps[1:]]],
                "resident_s": [[step.duration for step in resident.steps]],
                "peaks": [{"allocated": allocated}],
                "level_before_mode": LEVEL,
            }
        )
    head = {"record": "diffusers-forwards-of"} | about
    return [head, {"record": "diffusers-forwards-small"} | small, *found]


def last(shape: ForwardShape, tokens: int, node: Any, policy: Policy) -> float:
    """Predicted seconds of a settled forward."""
    return predict(scenario_of(shape, tokens, node, policy)).steps[-1].duration


def write(root: Path, lines: list[dict[str, Any]]) -> Path:
    """A node's folder with these lines."""
    folder = root / "h200-x1"
    folder.mkdir(parents=True)
    (folder / "profile.toml").write_text(Path(str(path_of("nodes", "h200-x1"))).read_text())
    (folder / "diffusers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def test_where_the_simulator_is_right_forwards_and_memory_are_met(lines, tmp_path):
    records, failures = read_forwards(write(tmp_path, lines))
    assert failures == []
    errors = [forward_error(record) for record in records]
    assert [e.record.mode for e in errors] == list(MODES)
    # The hooks' cost is found on the small model again, and the kernels' too: 200 and 15 us.
    for error in errors:
        assert error.error == pytest.approx(0.0, abs=2e-3), error.record.mode
        assert error.prediction.scenario.policy.hook_cost == pytest.approx(HOOK, rel=0.05)
        assert error.memory_error == pytest.approx(0.0, abs=1e-6)
    kinds = {e.record.mode: e.record.kind for e in errors}
    assert [kinds[mode] for mode in MODES] == ["streamed", "streamed", "pageable", "pageable"]


def test_what_a_kernel_costs_the_host_is_read_off_the_small_model(lines, tmp_path):
    record = read_forwards(write(tmp_path, lines))[0][0]
    node = with_launch_cost(load_node("h200-x1"), record)
    assert node.host.overheads.launch.value == pytest.approx(LAUNCH, rel=0.1)
    assert with_launch_cost(load_node("h200-x1"), record._replace(small={})) == load_node("h200-x1")


def test_a_mode_that_ran_slower_breaks_the_thresholds_of_its_kind_and_no_others(lines, tmp_path, capsys):
    slow = [
        line | {"mode_s": [[1.2 * s for s in run] for run in line["mode_s"]]} if _is(line, "block-stream") else line
        for line in lines
    ]
    assert validate_command(json=False, root=write(tmp_path / "slow", slow)) == 1
    out = capsys.readouterr().out
    assert "broken: library streamed: worst |error| 16.6" in out
    assert "broken: library streamed: median |error|" in out
    assert out.count("broken:") == 2
    assert "block-stream 8190" in out
    assert validate_command(json=True, root=write(tmp_path / "right", lines)) == 0
    found = json.loads(capsys.readouterr().out)["library"]
    assert [item["mode"] for item in found] == list(MODES)


def _is(line: dict[str, Any], mode: str) -> bool:
    return line.get("mode") == mode


def test_a_mode_that_failed_is_listed_with_its_error(lines, tmp_path):
    failed = {"record": "diffusers-forwards", "mode": "block", "policy": {}, "tokens": 24, "error": "out of time"}
    records, failures = read_forwards(write(tmp_path, [*lines[:2], failed]))
    assert (records, failures) == ([], [("h200-x1", "block 24", "out of time")])


def test_the_model_has_the_size_of_sixteen_wan_blocks_and_what_is_around_them():
    assert model_of(SHAPE._replace(blocks=16)).parameters == 16 * 351_394_304 + 232_719_424


def test_elementwise_kernels_have_the_rate_at_which_they_ran_alone(lines, tmp_path):
    """260.8 bytes per token and column, in 2 x 5 ms and 2 ms."""
    groups = {"norms": [5e-3, 5e-3, 9e-3], "others": [2e-3]}
    told = {"record": "diffusers-forwards-elementwise", str(TOKENS): groups, "per_block": {"norms": 2, "others": 1}}
    record = read_forwards(write(tmp_path, [*lines, told]))[0][0]
    node = with_elementwise_rate(load_node("h200-x1"), record)
    moved = elementwise_bytes(record, node)
    assert moved == pytest.approx(260.8 * TOKENS * 5120, rel=1e-3)
    assert node.gpu.elementwise.at(1e6) == pytest.approx(moved / 12e-3)
    assert forward_error(record).resident_error > 0.1


def test_pageable_copies_have_the_rates_of_single_tensors(lines, tmp_path):
    """Eight of 52.4 MB in 40 ms each and two of 141.6 MB in 100 ms each: 702.5 MB in 520 ms."""
    told = {"record": "diffusers-forwards-costs", "fresh_d2h_52428800": [0.04], "fresh_d2h_141557760": [0.1, 0.1, 0.3]}
    told |= {"pageable_h2d_52428800": [0.004], "pageable_h2d_141557760": [0.01]}
    record = read_forwards(write(tmp_path, [*lines, told]))[0][0]
    host = with_copy_rates(load_node("h200-x1"), record).host
    assert (host.fresh_d2h.value, host.pageable_h2d.value) == pytest.approx((702.5456e6 / 0.52, 702.5456e6 / 0.052))
    without = record._replace(fresh_d2h=None, pageable_h2d=None)
    assert with_copy_rates(load_node("h200-x1"), without) == load_node("h200-x1")
