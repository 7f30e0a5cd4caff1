"""What the questions share: scenarios of the two clusters, fitting one number, expected beside predicted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.table import Table

from offsim.engine.simulate import simulate
from offsim.program.build import build
from offsim.program.load import parse_scenario
from offsim.results.steps import step_rows
from offsim.scenario.scenario import Scenario

HERE = Path(__file__).parent
GIB = 2**30
ROUNDING = 1e-9
"""Share of a value below which an error is the arithmetic's."""
Role = Literal["fitted", "input", "held-out", "selected"]
"""selected: predicted, but for a reading that was chosen because it contains the measured value."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One published number and what it is used for."""

    key: str
    value: float
    unit: str
    role: Role
    source: str
    tolerance: float | None = None
    """Allowed error: in the value's own unit, or relative where `relative`."""
    relative: bool = False

    def holds(self, predicted: float) -> bool | None:
        """Whether a prediction is within the tolerance (None: nothing was asked)."""
        if self.tolerance is None:
            return None
        error = abs(predicted - self.value)
        return error <= self.tolerance * (abs(self.value) if self.relative else 1.0)


def expected(folder: str) -> dict[str, Expected]:
    """The expected values of a question, by key."""
    text = (HERE / folder / "expected.toml").read_bytes()
    rows = msgspec.toml.decode(text, type=dict[str, list[Expected]])["expected"]
    return {row.key: row for row in rows}


def comparison(title: str, rows: dict[str, Expected], predicted: dict[str, float]) -> Table:
    """Predicted beside published, with signed errors."""
    table = Table(title=title)
    for column in ("quantity", "role", "published", "predicted", "error", "asked", ""):
        table.add_column(column, justify="left" if column in ("quantity", "role", "") else "right")
    for key, value in predicted.items():
        row = rows[key]
        shown = _error(value, row)
        asked = (
            ""
            if row.tolerance is None
            else f"{100 * row.tolerance:g} %"
            if row.relative
            else f"{row.tolerance:g} {row.unit}"
        )
        held = row.holds(value)
        verdict = "" if held is None else "holds" if held else "MISSED"
        table.add_row(key, row.role, f"{row.value:g} {row.unit}", f"{value:.5g} {row.unit}", shown, asked, verdict)
    return table


def _error(value: float, row: Expected) -> str:
    """Signed, with its share; what is nothing but rounding is 0."""
    error = value - row.value
    if abs(error) < ROUNDING * abs(row.value):
        return f"0 {row.unit}"
    share = f" ({100 * error / row.value:+.1f} %)" if row.value else ""
    return f"{error:+.3g} {row.unit}{share}"


def wan(node: str | dict[str, Any], gpus: int, policy: dict[str, Any], **workload: Any) -> Scenario:
    """wan2.2.toml with another node, GPU count, policy and workload values."""
    simulation = workload.pop("simulation", {})
    tables = {"node": node, "policy": policy, "workload": {"gpus": gpus, **workload}, "simulation": simulation}
    return variant(HERE / "wan2.2.toml", tables)


def variant(path: Path, tables: dict[str, Any]) -> Scenario:
    """The scenario of a file with some tables overridden."""
    return parse_scenario({"extends": path.name, **tables}, path.with_name("variant"))


FULL_MODEL: dict[str, Any] = {"name": "full-model"}


def layerwise(version: str, prefetch: float = 1, **more: Any) -> dict[str, Any]:
    """SGLang's layerwise policy."""
    return {"name": "sglang-layerwise", "version": version, "prefetch": prefetch, **more}


def steady_seconds(scenario: Scenario) -> float:
    """The third step of a run: neither the first nor a switch."""
    program = build(scenario)
    return step_rows(program, simulate(scenario, program))[2].duration


def fit_efficiency(target: float, make: Callable[[float], Scenario]) -> float:
    """The compute efficiency at which a steady step takes `target` seconds.

    Kernel time is proportional to 1 / efficiency and nothing overlaps it in full-model mode, so two runs give the line.
    """
    slow, fast = steady_seconds(make(0.5)), steady_seconds(make(1.0))
    per_inverse = slow - fast
    return per_inverse / (target - fast + per_inverse)
