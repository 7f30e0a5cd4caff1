"""The page on diffusers' offloading modes: with measurements and without."""

import pytest

from calibration.validate.diffusers_prediction import ForwardError
from calibration.validate.diffusers_records import ForwardRecord
from calibration.validate.records import NODES
from experiments.diffusers import __main__ as diffusers
from offsim.scenario.load import load_node


def test_a_wait_is_named_by_what_moves_and_where_it_lies():
    found = {
        "host": "host",
        "H2D: transformer.blocks.*.attn1.to_q": "blocks in",
        "D2H: transformer.blocks.* out": "blocks out",
        "H2D: transformer other in": "outside in",
        "D2H: transformer other out": "outside out",
        "H2D: transformer.condition_embedder.time_proj": "outside in",
    }
    assert {what: diffusers.kind_of(what) for what in found} == found


@pytest.fixture(scope="module")
def short() -> list[diffusers.Row]:
    """Two blocks at 2,000 tokens on the node that the page falls back to."""
    node = load_node(str(NODES / diffusers.DEFAULT_NODE / "profile.toml"))
    return diffusers.predicted_rows(node, diffusers.SIXTEEN._replace(blocks=2), 2000, {})


def test_every_mode_has_a_reason_and_its_waits_fill_the_forward(short):
    assert {row.mode for row in short} == set(diffusers.MODES)
    assert len(diffusers.reasons(short).splitlines()) == len(short) - 1
    for row in short:
        losses = row.prediction.steps[-1].losses
        parts = losses.compute + losses.contention + sum(row.waits.values())
        assert parts == pytest.approx(row.seconds, rel=1e-6), row.mode


def test_busy_seconds_are_the_steps_kernels_and_copies(short):
    """Without a stream nothing overlaps: kernels and copies and idling make the forward, and idling is the host's."""
    row = next(row for row in short if row.mode == "block")
    busy = diffusers.busy_of(row.prediction)
    assert sum(busy.values()) + row.waits["host"] == pytest.approx(row.seconds, rel=1e-3)


def test_the_page_says_what_has_been_measured(short):
    assert "has not been measured on any node yet" in diffusers.state_of_data([])


def test_with_measurements_the_page_shows_them_beside_and_what_the_profiler_saw(short):
    """A mode that took twice what is predicted relative to no offloading: half of it, -50 %."""
    row = next(row for row in short if row.mode == "leaf-stream")
    resident = next(row for row in short if row.mode == "resident")
    ratio = row.seconds / resident.seconds
    seen = {"busy_s": {"kernels": 1.5, "H2D": 0.25, "D2H": 0.0}, "host": [["cudaStreamSynchronize", 9, 0.75]]}
    record = ForwardRecord(
        "a-node", NODES, diffusers.SIXTEEN, "leaf-stream", diffusers.MODES["leaf-stream"], 2000,
        [[2 * ratio]], [[1.0]], None, None, {}, None, 0, 0.0, None, None, {}, {}, seen,
    )  # fmt: skip
    error = ForwardError(record, row.prediction, resident.prediction)
    table = diffusers.ranking("title", [row._replace(measured=error), resident])
    assert [next(iter(column.cells)) for column in table.columns[-2:]] == [f"{2 * ratio:.3f}", "-50.0 %"]
    assert list(diffusers.seen_by_profiler([error]).columns[-1].cells) == ["0.750"]
    assert "Measured on a-node: 1 forwards, worst error -50.0 % (leaf-stream 2000)." in diffusers.state_of_data([error])
