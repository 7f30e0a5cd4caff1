"""Commands of a block, timed one by one: the same whether spans were measured or simulated."""

import pytest

from calibration.replays.parts import parts_of
from calibration.validate.parts import part_tables, predicted_parts
from calibration.validate.records import NODES
from offsim.program.spans import Span
from offsim.program.systems.fsdp import FSDP
from offsim.program.timeline import Timeline
from offsim.results.layout import render
from offsim.scenario.faults import ScenarioError
from tests.golden.tiny import tiny_scenario


def spans(rank: int, *, late: float = 0.0) -> list[Span]:
    """Two blocks: a kernel, an exchange that waits for the later rank, a kernel of the same name."""
    found = []
    for block, start in enumerate((0.0, 10.0)):
        name = f"blocks.{block} attention"
        found += [
            Span(rank, "compute", "compute", name, start, start + 1 + late),
            Span(rank, "compute", "collective", f"{name} q", start + 1 + late, start + 4),
            Span(rank, "compute", "compute", name, start + 4, start + 6),
            Span(rank, "copy", "H2D", f"blocks.{block}", start, start + 5),
            Span(rank, "H2D engine", "H2D", f"blocks.{block}", start, start + 5),
        ]
    return found


def test_parts_are_medians_by_place_in_the_block_and_an_exchange_is_what_the_later_rank_sees():
    timeline = Timeline(2, {0: 1, 1: 1})
    timeline.spans = spans(0) + spans(1, late=1.0)
    parts = {part.key: part for part in parts_of(timeline, 0.0)}
    assert parts["compute", "attention", 0].seconds == (1.0, 2.0)
    assert parts["compute", "attention", 1].seconds == (2.0, 2.0)
    exchange = parts["collective", "attention q", 0]
    assert exchange.seconds == (3.0, 2.0)
    assert exchange.shortest == 2.0
    assert parts["H2D", "blocks", 0].count == 2


def test_only_what_starts_late_enough_counts():
    timeline = Timeline(1, {0: 1})
    timeline.spans = spans(0)
    assert {part.count for part in parts_of(timeline, 10.0)} == {1}


def test_a_prediction_has_the_parts_of_its_program():
    keys = {part.key for part in predicted_parts(tiny_scenario(FSDP(), tokens=1280, gpus=2))}
    assert {("collective", "all-gather", 0), ("collective", "self-attention q", 0), ("compute", "ffn", 0)} <= keys


def test_measured_parts_stand_beside_predicted_ones():
    text = render(*part_tables(NODES / "h100-x2-c-nvlink", "16384-fsdp", "policy"))
    assert "all-gather" in text
    assert "ffn" in text


@pytest.mark.parametrize(
    ("node", "wanted", "said"), [("h200-x1-a", "", "no parts"), ("h100-x2-c-nvlink", "nothing", "has 'nothing'")]
)
def test_missing_parts_are_one_sentence(node, wanted, said):
    with pytest.raises(ScenarioError, match=said):
        part_tables(NODES / node, wanted, "resident")
