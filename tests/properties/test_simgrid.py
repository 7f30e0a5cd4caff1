"""The engine against SimGrid, where that is installed: experiments/speed/README.md says how."""

import pytest
from msgspec.structs import replace

from experiments.speed import workload
from experiments.speed.measure import FORMS, end_of, has_simgrid, simgrid_run, simulated
from offsim.engine.simulate import simulate

INSTALLED = pytest.mark.skipif(not has_simgrid(), reason="needs SimGrid's Python module: experiments/speed/README.md")


@INSTALLED
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("form", FORMS)
def test_both_end_at_the_same_instant(form, gpus, distinct):
    theirs = simgrid_run(gpus, 2, distinct=distinct)
    assert theirs is not None
    assert simulated(form, gpus, 2, distinct=distinct).end == pytest.approx(theirs.end, rel=1e-12, abs=0)


@INSTALLED
def test_one_byte_more_would_show(monkeypatch):
    theirs = simgrid_run(2, 2)
    assert theirs is not None
    monkeypatch.setattr(workload, "LAYER_BYTES", workload.LAYER_BYTES + 1)
    assert simulated("full", 2, 2).end != pytest.approx(theirs.end, rel=1e-12, abs=0)


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_all_forms_end_at_the_same_instant(gpus, distinct):
    ends = [simulated(form, gpus, 3, distinct=distinct).end for form in FORMS]
    assert ends == pytest.approx([ends[0]] * len(ends), rel=1e-12, abs=0)


@pytest.mark.parametrize("gpus", [64, 512])
def test_many_ranks_that_are_alike_are_one(gpus):
    question = replace(workload.scenario(gpus), simulation=FORMS["blocks"])
    timeline = simulate(question, workload.program(gpus, 2))
    assert timeline.represented == {0: gpus}
    # Half as many pairs meet at each uplink as both its ranks have peers elsewhere: bytes over its rate are a bound.
    sent = 2 * (gpus - 2) * workload.pair_bytes(gpus) * 2 * 2 * workload.FORWARDS * workload.LAYERS
    assert end_of(timeline) > sent / workload.UPLINK
