"""The fair-share solver against its oracle, and what max-min means."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offsim.engine.fair_share import SharedRow, fair_share
from tests.oracles.fair_share import fair_share_by_linear_programs

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
NUMBERS = st.integers(1, 400).map(lambda x: x / 20)


@st.composite
def problems(draw, most=6):
    """Weights, caps and rows; every flow is in some row or has a finite cap."""
    flows = draw(st.integers(1, most))
    weights = draw(st.lists(NUMBERS, min_size=flows, max_size=flows))
    caps = draw(st.lists(NUMBERS, min_size=flows, max_size=flows))
    row = st.dictionaries(st.integers(0, flows - 1), NUMBERS, min_size=1)
    drawn = draw(st.lists(st.tuples(NUMBERS, row), max_size=5))
    return weights, caps, [SharedRow(bound, tuple(users.items())) for bound, users in drawn]


@QUICK
@given(problems())
def test_the_rates_are_those_of_the_linear_programs(problem):
    assert fair_share(*problem).rates == pytest.approx(fair_share_by_linear_programs(*problem), rel=1e-7)


@QUICK
@given(problems(most=12))
def test_no_row_and_no_cap_is_exceeded(problem):
    _, caps, rows = problem
    rates = fair_share(*problem).rates
    assert all(0 < rate <= cap for rate, cap in zip(rates, caps, strict=True))
    for row in rows:
        assert sum(a * rates[f] for f, a in row.coefficients) <= row.bound * (1 + 1e-12)


@QUICK
@given(problems(most=12))
def test_every_flow_is_at_its_cap_or_highest_in_a_full_row(problem):
    """Bertsekas and Gallager's bottleneck criterion: it holds for max-min rates and for no others."""
    weights, caps, rows = problem
    shares = fair_share(*problem)
    for flow, row in enumerate(shares.binding):
        if row is None:
            assert shares.rates[flow] == pytest.approx(caps[flow], rel=1e-12)
            continue
        users = rows[row].coefficients
        assert sum(a * shares.rates[f] for f, a in users) == pytest.approx(rows[row].bound, rel=1e-9)
        highest = max(shares.rates[f] / weights[f] for f, _ in users)
        assert shares.rates[flow] / weights[flow] == pytest.approx(highest, rel=1e-9)


@QUICK
@given(problems(), st.permutations(range(6)))
def test_the_order_of_flows_and_rows_does_not_matter(problem, order):
    weights, caps, rows = problem
    order = [f for f in order if f < len(weights)]
    new = {old: place for place, old in enumerate(order)}
    moved = [SharedRow(row.bound, tuple((new[f], a) for f, a in row.coefficients)) for row in reversed(rows)]
    shuffled = fair_share([weights[f] for f in order], [caps[f] for f in order], moved)
    rates = fair_share(*problem).rates
    assert shuffled.rates == pytest.approx([rates[f] for f in order], rel=1e-9)


@QUICK
@given(problems(), st.sampled_from([0.25, 4.0, 1024.0]))
def test_scaling_every_weight_changes_nothing(problem, factor):
    weights, caps, rows = problem
    scaled = fair_share([w * factor for w in weights], caps, rows)
    assert scaled.rates == pytest.approx(fair_share(*problem).rates, rel=1e-12)
