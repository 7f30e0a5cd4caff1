"""The seeds' cluster as its author measured it later: its wiring told by three numbers, and what follows from that.

Fitted: one compute rate, to the kernels' time in a profile of full-model offload. All else is put in as measured there
or carried over from other machines, and full-model's steps are predicted before anything else is.
"""

from rich.console import Console

from offsim.results.predict import Prediction, predict

from ..common import FULL_MODEL, HERE, comparison, expected, variant
from .foretold import CENTRAL, INPUTS, STEPS, fitted, foretold, foretold_table, parts_table, ran, switch_costs, unknowns
from .hindsight import HINDSIGHT_VERDICT, hindsight_table
from .measure import RESIDENT, asked
from .unequal import Exchange, block_of, run_unequal
from .wirings import UNEQUAL_VERDICT, WIRING_VERDICT, unequal_table, wiring_table

FOLDER = "cluster"
SMALL = 3_932_160
"""Bytes that a rank sends of the text."""


def main(console: Console) -> bool:
    """Print the question's tables; whether full-model's held-out values hold."""
    console.print(wiring_table())
    console.print(WIRING_VERDICT)
    alone = asked(RESIDENT, **fitted(CENTRAL))
    console.print(unequal_table(block_of(alone), alone))
    console.print(UNEQUAL_VERDICT)
    rows, predicted = expected(FOLDER), full_model()
    console.print(comparison("Full-model offload, SGLang 0.5.8: one number fitted", rows, predicted))
    console.print(FULL_MODEL_VERDICT)
    console.print(hindsight_table())
    console.print(HINDSIGHT_VERDICT)
    console.print(parts_table())
    numbers = foretold()
    console.print(foretold_table("4 x H100 PCIe, predicted", numbers))
    console.print(unknowns(numbers))
    longer = f"{1e3 * abs(switch_costs()):.1f} ms"
    console.print(f"Layerwise's switch step differs from a steady one by {longer}: both experts' first blocks stay.")
    console.print(INPUTS)
    return all(rows[key].holds(value) is not False for key, value in predicted.items())


def full_model() -> dict[str, float]:
    """What of full-model offload was measured, predicted; of layerwise the share that speaks of the weight."""
    run = _run()
    steady, switch = run.steady, run.steps[18].duration
    small = run_unequal(asked(RESIDENT, **fitted(CENTRAL)), [Exchange(0.0, SMALL)], (0.0,) * 4).small()[0]
    return {
        "kernels in 27 steps": STEPS * run.steps[run.steady_index].losses.compute,
        "full-model steady step": steady,
        "full-model switch step": switch,
        "full-model, 27 steps of a second run": 25 * steady + 2 * switch,
        "all-to-all of 5 MiB": 1e3 * small,
        "share of copied bytes outside collectives": 100 * ran(CENTRAL, "layerwise").copied_outside,
    }


def _run() -> Prediction:
    reading = fitted(CENTRAL)
    work = {"compute_efficiency": reading["compute_efficiency"]}
    path = HERE / FOLDER / "full-model.toml"
    return predict(variant(path, {"policy": FULL_MODEL, "node": reading["node"], "workload": work}))


FULL_MODEL_VERDICT = (
    "A second run's first step is taken for another switch: the first run leaves the second expert on the device, so it goes"
    " out into fresh pages and the first comes in (the measured total leaves 42.6 s for it, if steady steps are those of the"
    " other run). The profile's 207.0 s of exposed collectives are 27 steady steps (190 s) and 17 s that ranks waited for"
    " each other in the first and the switch step."
)
