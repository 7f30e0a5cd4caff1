"""How long simulations take: one workload on 1 to 512 GPUs, shortcut by shortcut, beside SimGrid where it is installed."""
