"""Weighted max-min rates by linear programs: slow, obvious, and nothing in common with the engine's solver.

Lexicographically maximise min(x_f / w_f): raise the common level of all open flows as far as it goes, find
those that cannot rise above it by maximising each alone, fix them, repeat.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

from offsim.engine.fair_share import SharedRow


def fair_share_by_linear_programs(
    weights: Sequence[float], caps: Sequence[float], rows: Sequence[SharedRow], tolerance: float = 1e-9
) -> list[float]:
    """The rates of `offsim.engine.fair_share`, from the definition."""
    lower = np.zeros(len(weights))
    fixed: dict[int, float] = {}
    while len(fixed) < len(weights):
        level = _highest_level(weights, caps, rows, fixed)
        for f in range(len(weights)):
            lower[f] = fixed.get(f, level * weights[f] * (1 - tolerance / 10))
        open_flows = [f for f in range(len(weights)) if f not in fixed]
        tops = {f: _highest_rate(f, caps, rows, lower, fixed) for f in open_flows}
        stuck = [f for f in open_flows if tops[f] <= level * weights[f] * (1 + 1e-7)]
        assert stuck, "some flow must be unable to rise"
        fixed.update({f: level * weights[f] for f in stuck})
    return [fixed[f] for f in range(len(weights))]


def _matrix(rows: Sequence[SharedRow], flows: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by their bounds: sum(a / b x) <= 1."""
    matrix = np.zeros((len(rows), flows))
    for i, row in enumerate(rows):
        for f, a in row.coefficients:
            matrix[i, f] += a / row.bound
    return matrix, np.ones(len(rows))


def _highest_level(
    weights: Sequence[float], caps: Sequence[float], rows: Sequence[SharedRow], fixed: dict[int, float]
) -> float:
    """Largest t with x_f >= w_f t for every open flow. The variables are the rates and t."""
    n = len(weights)
    matrix, bounds = _matrix(rows, n)
    share = np.array([[-float(i == f) for i in range(n)] + [weights[f]] for f in range(n) if f not in fixed])
    above = np.vstack([np.hstack([matrix, np.zeros((len(rows), 1))]), share])
    limits = [(fixed[f], fixed[f]) if f in fixed else (0.0, caps[f]) for f in range(n)]
    bounds = np.concatenate([bounds, np.zeros(len(share))])
    return _solve(-np.eye(n + 1)[n], above, bounds, [*limits, (0.0, None)])[n]


def _highest_rate(
    flow: int, caps: Sequence[float], rows: Sequence[SharedRow], lower: np.ndarray, fixed: dict[int, float]
) -> float:
    """Largest rate of one flow while every other open flow keeps at least its level."""
    n = len(caps)
    matrix, bounds = _matrix(rows, n)
    limits = [(fixed[f], fixed[f]) if f in fixed else (lower[f], caps[f]) for f in range(n)]
    return _solve(-np.eye(n)[flow], matrix, bounds, limits)[flow]


def _solve(
    cost: np.ndarray, matrix: np.ndarray, bounds: np.ndarray, limits: Sequence[tuple[float, float | None]]
) -> np.ndarray:
    # Fixed flows may fill a row to its last digit: let each row exceed its bound by rounding.
    result = linprog(cost, A_ub=matrix, b_ub=bounds + 1e-10 * (bounds > 0), bounds=limits, method="highs-ds")
    assert result.status == 0, result.message
    return np.asarray(result.x)
