"""The timestep schedule of flow matching, which decides at which step the expert changes.

Source: SGLang's UniPC flow scheduler as described in its sources: alpha = linspace(1, 1/1000, N + 1),
s = 1 - alpha, sigma = shift s / (1 + (shift - 1) s), reversed, the last one dropped, t = int(1000 sigma).
"""

TRAINING_TIMESTEPS = 1000


def timesteps(steps: int, flow_shift: float) -> list[int]:
    """The integer timestep of each denoising step, from noise to image.

    >>> timesteps(4, 1.0)
    [999, 749, 499, 249]
    """
    last = 1 / TRAINING_TIMESTEPS
    spacing = (last - 1.0) / steps
    # Plain floats in numpy.linspace's order of operations: importing numpy takes as long as a whole prediction.
    alphas = [*(i * spacing + 1.0 for i in range(steps)), last]
    sigmas = [1 - alpha for alpha in reversed(alphas)][:-1]
    return [int(TRAINING_TIMESTEPS * (flow_shift * s / (1 + (flow_shift - 1) * s))) for s in sigmas]


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
