"""8 x H100 over NVLink, SGLang PR 15511: full-model against layerwise (V0)."""

import json

from rich.console import Console
from rich.table import Table

from offsim.results.predict import Prediction, predict
from offsim.scenario.scenario import Scenario

from ..common import HERE, comparison, expected, fit_efficiency, variant

FOLDER = "nvlink_8x_h100"


def scenario(name: str, efficiency: float, **workload: object) -> Scenario:
    """The PR's run in one mode (full-model.toml, layerwise.toml): torch.compile, SageAttention, 86,400 tokens."""
    return variant(HERE / FOLDER / f"{name}.toml", {"workload": {"compute_efficiency": efficiency, **workload}})


def predictions() -> tuple[float, Prediction, Prediction]:
    """The fitted efficiency and both modes, each with its measured first step put in."""
    rows = expected(FOLDER)
    efficiency = fit_efficiency(rows["full-model steady step"].value, lambda e: scenario("full-model", e))
    return (
        efficiency,
        _with_first_step("full-model", efficiency, rows["full-model first step"].value),
        _with_first_step("layerwise", efficiency, rows["layerwise first step"].value),
    )


def _with_first_step(name: str, efficiency: float, first: float) -> Prediction:
    """The run whose first step takes as long as measured: what is missing is compilation and start-up."""
    bare = predict(scenario(name, efficiency)).steps[0].duration
    return predict(scenario(name, efficiency, compile_s=first - bare))


def main(console: Console) -> bool:
    """Print the question's tables; whether every held-out value holds."""
    efficiency, full, layer = predictions()
    rows = expected(FOLDER)
    predicted = {
        "full-model steady step": full.steady,
        "layerwise steady step less full-model's": 1e3 * (layer.steady - full.steady),
        "layerwise switch step less its steady step": 1e3 * (layer.steps[18].duration - layer.steady),
        "full-model switch step": full.steps[18].duration,
        "full-model first step": full.steps[0].duration,
        "layerwise first step": layer.steps[0].duration,
        "full-model sum of steps": full.total,
        "layerwise sum of steps": layer.total,
    }
    console.print(f"Fitted: compute efficiency {efficiency:.3f}. Inputs: the two first steps.")
    console.print(comparison("8 x H100 NVLink, full-model against layerwise", rows, predicted))
    console.print(_causes(full, layer))
    console.print(_drift())
    return all(row.holds(predicted[key]) is not False for key, row in rows.items())


def _causes(full: Prediction, layer: Prediction) -> Table:
    """Where the predicted difference comes from, and what it would be with other attention rates."""
    table = Table(title="The predicted difference of a steady step, by cause")
    table.add_column("cause")
    table.add_column("ms", justify="right")
    sums: dict[str, float] = {}
    for charge in layer.ledger():
        if charge.step == 5:
            key = f"{charge.waiting.split(':')[0]} slowed by {charge.culprit}"
            sums[key] = sums.get(key, 0.0) + 1e3 * charge.seconds
    host = 1e3 * (layer.steps[5].losses.host_bound - full.steps[5].losses.host_bound)
    graph = 1e3 * (layer.steps[5].losses.compute - full.steps[5].losses.compute)
    for cause, value in (*sums.items(), ("graph breaks between compiled blocks", graph), ("host not ahead", host)):
        table.add_row(cause, f"{value:.2f}")
    return table


def _drift() -> str:
    """The measured difference drifts during the run: the floor for any prediction of one number."""
    lists = json.loads((HERE / FOLDER / "steps.json").read_text())
    full = [t for i, t in enumerate(lists["full_offload_ms"]) if i not in (0, 18)]
    base = sum(full) / len(full)
    early = sum(lists["layerwise_ms"][1:9]) / 8 - base
    late = sum(lists["layerwise_ms"][19:27]) / 8 - base
    return f"Measured difference over time: steps 1-8 {early:+.1f} ms, steps 19-26 {late:+.1f} ms (the GPUs warm up)."
