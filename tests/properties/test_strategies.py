"""Properties are asked of everything that a scenario can say: no option is left out of what is drawn."""

from msgspec.structs import replace

from offsim.program.systems.resident import Resident
from tests.golden.tiny import library_scenario, tiny_model
from tests.options import all_options, drawn_options
from tests.scenario_strategies import drawn, models, policies, simulations, small_scenarios, workloads
from tests.strategies import nodes

KNOWN = library_scenario(Resident(), gpus=2)
"""Of a model whose modules are known one by one, as some policies need it."""
DRAWN = (
    (small_scenarios(simulation=simulations), 30),
    (models(), 400),
    (nodes(1), 30),
    (nodes(4), 60),
    (workloads(tiny_model(), KNOWN.node, 4), 150),
    (policies(KNOWN.model, KNOWN.workload).map(lambda policy: replace(KNOWN, policy=policy)), 600),
)


def test_every_value_of_every_option_is_drawn():
    structs = [struct for strategy, count in DRAWN for struct in drawn(strategy, count, seed=1)]
    assert all_options() - drawn_options(structs) == set()
