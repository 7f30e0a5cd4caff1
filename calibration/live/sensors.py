"""What the current CUDA device's sensors say; nothing but torch, so that any script on a node can ask."""

import torch


def sensors() -> dict[str, float]:
    """Clock [MHz], power [W] and temperature [C] now; raises what torch raises where the driver doesn't tell."""
    return {
        "sm_clock_MHz": float(torch.cuda.clock_rate()),
        "power_W": torch.cuda.power_draw() / 1e3,
        "temperature_C": float(torch.cuda.temperature()),
    }
