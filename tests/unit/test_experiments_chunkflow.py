"""ChunkFlow's formulas by hand, its node, which of its open numbers come out, and what is kept."""

import pytest

from experiments.chunkflow.answer import expected_rows, found, prediction_rows
from experiments.chunkflow.cases import (
    CHUNKFLOW,
    FLUX,
    HERE,
    HUNYUAN,
    JANUARY,
    NO_OFFLOAD,
    READINGS,
    SIZES,
    SPRING,
    WAN,
    Case,
    fitted_efficiency,
    predicted,
    ratio,
)
from experiments.chunkflow.gates import WAYS, over_layerwise
from experiments.chunkflow.paper import (
    PAPER_MODELS,
    compute_seconds,
    copy_seconds,
    critical_flops,
    critical_size,
    dit_flops,
    double_flops,
    single_flops,
)
from experiments.chunkflow.sweeps import chunk_order, falls, residency_ratios
from offsim.program.build import build
from offsim.program.check import problems
from offsim.program.first_order import copy_rate

MISSED = {
    "wan 81 layerwise, share of contention",
    "wan worst layerwise / no offload",
    "hunyuan 33 chunkflow, peak / no offload",
    "hunyuan 9, 60 % resident, peak / no offload",
}
"""Of the open numbers; the README has how far, and why."""


def test_flops_of_one_token_of_width_one_are_the_formulas_coefficients():
    """8 + 4 + (4 + 4) + 4 + 4; 8 + 8 + 4 x 4 + 4 + 4; 2 x 2 x 4 + 4 x 4 + 2 x 2 x 2."""
    assert dit_flops(1, 1, 1, 1, 1) == 28
    assert double_flops(1, 1, 1, 1, 1) == 40
    assert single_flops(1, 1, 1, 1, 1) == 40
    assert dit_flops(3, 1, 1, 1, 1) == 3 * 28


def test_a_block_of_wan_takes_10_7_ms_and_its_copy_18_5():
    assert compute_seconds(PAPER_MODELS[WAN].flops(81)) == pytest.approx(10.67e-3, rel=1e-3)
    assert copy_seconds(520e6) == pytest.approx(18.55e-3, rel=1e-3)
    assert compute_seconds(2 * critical_flops(520e6)) == pytest.approx(copy_seconds(520e6))


@pytest.mark.parametrize(("model", "said", "true"), [(WAN, 119.1, 86.4), (HUNYUAN, 34.5, 24.7), (FLUX, 11.5, 10.3)])
def test_the_papers_critical_sizes_follow_from_its_volumes_and_fall_with_true_bytes(model, said, true):
    paper = PAPER_MODELS[model]
    assert critical_size(paper, paper.volume) == pytest.approx(said, abs=0.05)
    assert critical_size(paper, paper.true_bytes) == pytest.approx(true, abs=0.05)


@pytest.mark.parametrize("model", SIZES)
def test_true_bytes_are_those_of_the_catalogues_blocks(model):
    blocks = Case(SPRING, model, SIZES[model][0]).scenario(NO_OFFLOAD, 1.0).model
    mean = 2 * blocks.block_parameters / blocks.block_count
    assert mean == pytest.approx(PAPER_MODELS[model].true_bytes, rel=2e-3)


def test_both_gpus_of_the_root_copy_at_28_gb_a_second():
    assert copy_rate(Case(SPRING, WAN, 81).scenario(CHUNKFLOW, 1.0)) == 28e9


def test_spring_counts_tokens_as_the_paper_does_and_january_pads_frames():
    """220 (n + 3) and 900 (n + 3): 18,480 and 32,400; 22 latent frames of 880, 10 of 3600."""
    tokens = {
        r.name: [Case(r, m, n).scenario(NO_OFFLOAD, 1.0).tokens for m, n in ((WAN, 81), (HUNYUAN, 33))]
        for r in READINGS
    }
    assert tokens == {"spring": [18_480, 32_400], "january": [19_360, 36_000]}


def test_one_number_is_fitted_and_it_fits():
    for reading in READINGS:
        assert 0.5 < fitted_efficiency(reading.name) < 1.5
        assert predicted(Case(reading, WAN, 81), NO_OFFLOAD).steady == pytest.approx(1.307)


@pytest.mark.parametrize("model", SIZES)
def test_programs_of_every_model_pass_the_static_check(model):
    for policy in (CHUNKFLOW, CHUNKFLOW | {"launched_ahead": True}, CHUNKFLOW | {"resident_fraction": 0.6}):
        assert problems(build(Case(JANUARY, model, SIZES[model][0]).scenario(policy, 1.0))) == []


def test_open_numbers_come_out_but_for_those_that_the_readme_names():
    rows = expected_rows()
    held = {key: rows[key].holds(value) for key, value in found(JANUARY).items()}
    assert {key for key, holds in held.items() if holds is False} == MISSED
    readme = (HERE / "README.md").read_text()
    assert all(key in readme for key in MISSED)


def test_chunks_of_16_mb_are_fastest_and_steps_fall_with_what_stays():
    assert chunk_order(50) == [16, 64, 4, 256]
    assert all(falls(residency_ratios(model)) for model in SIZES)


def test_the_route_of_exchanges_decides_whether_there_is_anything_to_gain():
    """Wan at 81 frames: through host memory layerwise costs four tenths, peer to peer nothing."""
    through, between = (ratio(Case(SPRING, WAN, 81, way), SPRING.layerwise) for way in ("host-memory", "pcie"))
    assert through == pytest.approx(1.40, abs=0.02)
    assert between == pytest.approx(1.00, abs=0.01)


def test_chunks_cost_where_exchanges_and_copies_share_nothing_and_copies_are_not_hidden():
    gains = {way.name: over_layerwise(way, 41) for way in WAYS}
    assert gains["one root, host memory"] > 5
    assert gains["NVLink"] < -20 and gains["one root, peer to peer"] < -20


def test_what_is_kept_has_every_run_of_every_model_and_size():
    kept = (HERE / "predictions.csv").read_text().splitlines()
    assert len(kept) == 1 + len(READINGS) * (4 * 12 + 2 * 4 + 3 * 3)
    assert (HERE / "results.txt").is_file()
    assert kept[0].startswith("reading,model,size,policy,tokens,step_s")


def test_a_kept_prediction_is_what_is_predicted_now():
    first = next(prediction_rows())
    kept = (HERE / "predictions.csv").read_text().splitlines()[1]
    assert kept == ",".join(str(value) for value in first.values())
