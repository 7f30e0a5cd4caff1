"""Collectives beside copies: what a profile predicts of them stands beside what was measured."""

from pathlib import Path

import pytest

from calibration.samples.sample_file import Header, SampleFile
from calibration.validate.pairs import PAIRED, READ, compared_pairs, pair_tables
from calibration.validate.records import NODES, PROFILE_POINTER
from calibration.validate.simulated_bench import SimulatedBench, simulated_samples
from offsim.results.layout import render
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_node

MEASURED = NODES / "h100-x2-e-host-memory"


def folder_of(tmp_path: Path, **slower: float) -> Path:
    """A node that does what its profile predicts, but for the readings that took so many times as long."""
    whole = load_node(str(MEASURED / "profile.toml"))
    bench = SimulatedBench(whole)
    folder = tmp_path / "node"
    folder.mkdir()
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "profile.toml").write_bytes((MEASURED / "profile.toml").read_bytes())
    (folder / PROFILE_POINTER).write_text("profile")
    file = SampleFile(folder / "samples-host-memory.jsonl")
    file.begin(Header("full", "abc", bench.node, "2026-01-01", "host-memory"))
    for sample in simulated_samples(bench, "full", tuple(PAIRED.values()))[0]:
        for name, factor in slower.items():
            sample.readings[name] = [factor * value for value in sample.readings[name]]
        file.append(sample)
    return folder


def test_a_node_that_does_what_its_profile_says_has_no_errors(tmp_path):
    found = list(compared_pairs(folder_of(tmp_path)))
    assert {pair.sample.probe for pair in found} == {"copy-collective", "copy-collective-sizes"}
    assert {pair.sample.config["only_rank"] for pair in found} == {-1}
    assert max(abs(error) for pair in found for error in pair.errors()) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("name", "factor", "error"), [("alone", 1.25, 0.25), ("beside", 1.25, 0.25), ("copy_rate", 0.8, 0.25)]
)
def test_a_rate_that_was_lower_than_predicted_is_predicted_too_high(tmp_path, name, factor, error):
    for pair in compared_pairs(folder_of(tmp_path, **{name: factor})):
        errors = dict(zip(READ, pair.errors(), strict=True))
        assert errors.pop(name) == pytest.approx(error)
        assert list(errors.values()) == pytest.approx([0.0, 0.0])


def test_what_no_fit_reads_is_summed_up(tmp_path):
    text = render(*pair_tables(folder_of(tmp_path, beside=1.25)))
    assert "60 rates that no fit reads: median error 12.5 %, worst 25.0 %, 30 within 5 %" in text


def test_nodes_without_such_probes_show_what_they_have():
    text = render(*pair_tables(MEASURED))
    assert "all-gather" in text
    assert "no fit reads" not in text


@pytest.mark.parametrize(
    ("node", "message"), [("nowhere", "no samples"), ("h200-x1-d", "no collectives beside copies there")]
)
def test_a_folder_without_pairs_says_so(node, message):
    with pytest.raises(ScenarioError, match=message):
        pair_tables(NODES / node)
