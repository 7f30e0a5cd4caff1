"""Fair shares that can be checked in the head: links of 100 B/s."""

from math import inf

import pytest

from offsim.engine.fair_share import SharedRow, fair_share


def link(*flows: int, bound: float = 100.0) -> SharedRow:
    """A link that these flows cross once each."""
    return SharedRow(bound, tuple((flow, 1.0) for flow in flows))


def test_one_flow_has_the_link():
    assert fair_share([1], [inf], [link(0)]) == ([100.0], [0])


def test_a_cap_below_the_link_binds():
    assert fair_share([1], [30], [link(0)]) == ([30.0], [None])


def test_two_equal_flows_share_equally():
    assert fair_share([1, 1], [inf, inf], [link(0, 1)]).rates == [50.0, 50.0]


def test_weights_three_and_one_share_three_to_one():
    assert fair_share([3, 1], [inf, inf], [link(0, 1)]).rates == [75.0, 25.0]


def test_what_a_capped_flow_leaves_goes_to_the_others():
    shares = fair_share([1, 1, 1], [inf, 10, inf], [link(0, 1, 2)])
    assert shares.rates == [45.0, 10.0, 45.0]
    assert shares.binding == [0, None, 0]


def test_a_flow_over_two_links_gets_the_smaller_share_and_leaves_the_rest():
    """Flow 1 crosses both links: 20 on the narrow one, so flow 0 has 80 of the wide one."""
    shares = fair_share([1, 1, 1], [inf] * 3, [link(0, 1), link(1, 2, bound=40.0)])
    assert shares.rates == [80.0, 20.0, 20.0]
    assert shares.binding == [0, 1, 1]


def test_a_flow_that_counts_twice_uses_twice_its_rate():
    """2 x + y <= 90 with x = y."""
    row = SharedRow(90.0, ((0, 2.0), (1, 1.0)))
    assert fair_share([1, 1], [inf, inf], [row]).rates == [30.0, 30.0]


def test_both_directions_of_a_link_share_its_duplex_limit():
    """Down 100, up 50, gamma 1.5: up is full at 50, which leaves 0.5 x 100 down."""
    rows = [link(0), link(1, bound=50.0), SharedRow(1.5, ((0, 1 / 100), (1, 1 / 50)))]
    assert fair_share([1, 1], [inf, inf], rows).rates == pytest.approx([50.0, 50.0])


def test_a_tight_duplex_limit_halves_both_directions():
    rows = [link(0), link(1), SharedRow(1.0, ((0, 1 / 100), (1, 1 / 100)))]
    assert fair_share([1, 1], [inf, inf], rows).rates == pytest.approx([50.0, 50.0])


def test_flows_that_share_nothing_do_not_meet():
    assert fair_share([1, 5], [inf, inf], [link(0), link(1, bound=7.0)]).rates == [100.0, 7.0]


def test_no_flows_have_no_rates():
    assert fair_share([], [], []) == ([], [])


def test_a_row_that_nobody_uses_binds_nobody():
    assert fair_share([1], [5], [SharedRow(0.0, ())]).rates == [5.0]


def test_the_measured_pair_of_copy_and_all_to_all():
    """53.7 GB/s of host reads per GPU, weights 1 and 0.303: 41.2 and 12.5 GB/s (measured 40.3 and 12.2)."""
    copy, exchange = fair_share([1, 0.303], [55.2, 23.5], [link(0, 1, bound=53.7)]).rates
    assert (copy, exchange) == pytest.approx((40.3, 12.2), rel=0.03)
