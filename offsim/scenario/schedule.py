"""The timestep schedule of flow matching, which decides at which step the expert changes.

Source: SGLang's UniPC flow scheduler as described in its sources: alpha = linspace(1, 1/1000, N + 1),
s = 1 - alpha, sigma = shift s / (1 + (shift - 1) s), reversed, the last one dropped, t = int(1000 sigma).
"""

import numpy as np

TRAINING_TIMESTEPS = 1000


def timesteps(steps: int, flow_shift: float) -> list[int]:
    """The integer timestep of each denoising step, from noise to image.

    >>> timesteps(4, 1.0)
    [999, 749, 499, 249]
    """
    sigma = 1 - np.linspace(1.0, 1 / TRAINING_TIMESTEPS, steps + 1)
    shifted = flow_shift * sigma / (1 + (flow_shift - 1) * sigma)
    return [int(t) for t in TRAINING_TIMESTEPS * shifted[::-1][:-1]]


def experts(steps: int, flow_shift: float, boundary_ratio: float) -> list[int]:
    """The expert of each step: 0 (high noise) while t >= boundary_ratio * 1000, then 1."""
    boundary = boundary_ratio * TRAINING_TIMESTEPS
    return [0 if t >= boundary else 1 for t in timesteps(steps, flow_shift)]


def switch_step(steps: int, flow_shift: float, boundary_ratio: float) -> int | None:
    """0-based step at which the low-noise expert takes over, or None if it never does.

    >>> switch_step(27, 12.0, 0.875), switch_step(27, 3.0, 0.875), switch_step(40, 12.0, 0.875)
    (18, 9, 26)
    """
    chosen = experts(steps, flow_shift, boundary_ratio)
    return chosen.index(1) if 1 in chosen else None
