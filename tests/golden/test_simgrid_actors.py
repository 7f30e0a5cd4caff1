"""What the native SimGrid actors of the speed comparison are told, as text."""

from experiments.speed.simgrid_actors import workload_text

TOLD = "simgrid-actors-2-ranks"


def test_two_ranks_that_differ_and_one_step(compare):
    compare(TOLD, workload_text(2, 1, distinct=True))
