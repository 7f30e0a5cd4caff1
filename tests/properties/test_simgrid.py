"""The engine against both forms of SimGrid, where that is installed: experiments/speed/README.md says how."""

import pytest
from msgspec.structs import replace

from experiments.speed import simgrid_actors, workload
from experiments.speed.measure import ACTORS, FORMS, TASKS, actors_run, end_of, not_there, simulated, tasks_run
from offsim.engine.simulate import simulate

LACKS = not_there()
PEERS = [
    pytest.param(
        peer,
        marks=pytest.mark.skipif(form in LACKS, reason=f"needs {LACKS.get(form)}: experiments/speed/README.md"),
        id=form,
    )
    for form, peer in ((TASKS, tasks_run), (ACTORS, actors_run))
]


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
@pytest.mark.parametrize("form", FORMS)
def test_both_end_at_the_same_instant(form, gpus, distinct, peer):
    theirs = peer(gpus, 2, distinct=distinct)
    assert simulated(form, gpus, 2, distinct=distinct).end == pytest.approx(theirs.end, rel=1e-12, abs=0)


@pytest.mark.parametrize("peer", PEERS)
def test_one_byte_more_would_show(peer, monkeypatch):
    theirs = peer(2, 2)
    monkeypatch.setattr(workload, "LAYER_BYTES", workload.LAYER_BYTES + 1)
    assert simulated("full", 2, 2).end != pytest.approx(theirs.end, rel=1e-12, abs=0)


def test_what_the_actors_lack_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    assert "a C++ compiler" in not_there()[ACTORS]
    monkeypatch.setattr(simgrid_actors, "HEADER", "include/no-header.hpp")
    assert not_there()[ACTORS].endswith(
        "and SimGrid's headers (include/no-header.hpp beside a directory of LD_LIBRARY_PATH, in /usr/local or in /usr)"
    )


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
