"""The seeds' cluster: what tells its wiring, ranks that wait for each other, and the order of what is predicted."""

import io

import pytest
from rich.console import Console

from experiments.seeds import b200
from experiments.seeds.cluster import full_model
from experiments.seeds.cluster.foretold import CENTRAL, Foretold, ran
from experiments.seeds.cluster.measure import RESIDENT, asked, copies_alone, overlapped, steady
from experiments.seeds.cluster.unequal import Exchange, block_of, run_unequal
from experiments.seeds.cluster.wirings import CHOSEN, SENT, WIRINGS, Wiring, lateness, steady_all_to_all
from experiments.seeds.common import expected
from experiments.seeds.figure import rows
from offsim.program.spans import Span

BOTH_WAYS = WIRINGS[-1]


@pytest.mark.parametrize("wiring", WIRINGS, ids=lambda wiring: wiring.name)
def test_an_all_to_all_takes_what_its_busiest_link_needs_and_50_us(wiring: Wiring):
    found = lateness(asked(RESIDENT, wiring.node)).together
    assert 1e3 * found == pytest.approx(wiring.at_least + 0.048, abs=0.005)


def test_one_uplink_through_host_memory_is_the_reading_nearest_to_the_measured_all_to_all():
    off = {w.name: abs(w.at_least - 1e3 * steady_all_to_all()) for w in WIRINGS}
    assert min(off, key=off.get) == CHOSEN.name
    assert copies_alone(asked(RESIDENT, CHOSEN.node)) == pytest.approx(12.45e9)


def test_the_last_rank_goes_at_its_own_rate_while_the_others_wait():
    """165.9 MB at 23.6 GB/s and 48 us; whoever came 200 ms earlier has waited so long."""
    found = lateness(asked(RESIDENT, CHOSEN.node))
    assert 1e3 * found.last == pytest.approx(SENT / 23.6 + 0.048, abs=0.01)
    assert found.waiting == pytest.approx(0.2 + found.last)


def test_a_limit_on_both_ways_of_the_uplink_forbids_the_shortest_call():
    """The last rank moves 2 x 331.8 MB over the uplink, both ways together: 663.6 MB at 78.7 GB/s."""
    last = 1e3 * lateness(asked(RESIDENT, BOTH_WAYS.node)).last
    assert last == pytest.approx(4 * SENT / 78.7 + 0.048, abs=0.05)
    assert last > 1.15 * expected("cluster")["shortest all-to-all of 210.9 MiB"].value


def test_equal_ranks_take_what_the_simulator_says():
    alone = asked(RESIDENT)
    blocks = run_unequal(alone, block_of(alone), (0.0,) * 4, blocks=2)
    assert 40 * blocks.seconds == pytest.approx(steady(alone).seconds, rel=0.002)


def test_the_fastest_rank_waits_for_the_slowest():
    """Kernels of 10 and 12 ms before a call of which 2 ms are left when the last one comes."""
    alone = asked(RESIDENT)
    found = run_unequal(alone, [Exchange(0.010, 1e6 * SENT)], (0.0, 0.0, 0.0, 0.2))
    fastest, slowest = found.large(0)[0], found.large(3)[0]
    assert fastest - slowest == pytest.approx(0.002, abs=1e-6)


def test_full_model_is_predicted_from_the_time_of_its_kernels():
    rows = expected("cluster")
    missed = [key for key, value in full_model().items() if rows[key].holds(value) is False]
    assert missed == []


def test_spread_copies_cost_next_to_nothing_and_sharded_ones_more_than_plain_layerwise():
    base, plain, sharded, spread = (ran(CENTRAL, p).seconds for p in ("no offload", "layerwise", "sharded", "spread"))
    assert base < spread < 1.01 * base
    assert 1.1 * base < plain < sharded


def test_without_offload_b200s_peak_is_as_measured():
    assert b200.main(Console(file=io.StringIO(), width=120))


def test_layerwise_on_b200_is_within_an_interval_that_begins_without_offload():
    step, *_ = b200.foretold(b200.efficiency(), b200.kept())
    assert (step.low, step.central) == (pytest.approx(12.0, abs=0.01), pytest.approx(12.02, abs=0.02))


def test_an_interval_is_as_wide_as_half_of_it_over_its_middle():
    number = Foretold("", "s", 11.0, 9.0, 11.0)
    assert number.width == pytest.approx(0.1)
    assert number.widened(0.2).high == pytest.approx(11.0 + 2.2)


def test_seconds_in_which_both_run_are_counted_once():
    """[0, 2] and [3, 5] beside [1, 4]: one second of each."""
    ones = [Span(0, "a", "H2D", "", start, start + 2) for start in (0.0, 3.0)]
    assert overlapped(ones, [Span(0, "b", "collective", "", 1.0, 4.0)]) == 2.0


def test_the_picture_shows_a_copy_that_meets_exchanges_on_one_uplink_and_none_of_it_elsewhere():
    alone, layerwise, spread, nvlink = rows()
    lengths = [1e3 * (row.end - row.begin) for row in (alone, layerwise, spread, nvlink)]
    assert lengths[1] - lengths[0] > 30 and lengths[2] - lengths[0] < 2
    met = [
        overlapped(*([s for s in row.spans if s.kind == kind] for kind in ("H2D", "collective")))
        for row in (alone, layerwise, spread, nvlink)
    ]
    assert met[0] == 0 and met[1] > 0.05 and met[2] < 0.001 and met[3] < 0.002
