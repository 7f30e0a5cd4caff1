"""Links and routes of wan27's node by name, for engines that are told every route: workload.py says what they are."""

from .workload import LINK, MEMORY, gpus_per_switch, uplink_rate

HOST_MEMORY = "memory"
READ, WRITE = "host-read", "host-write"


def gpu_name(rank: int) -> str:
    """What a rank's GPU is called."""
    return f"gpu-{rank}"


def links(gpus: int, *, distinct: bool) -> dict[str, float]:
    """Rates of all links by name [bytes/s]; directions of a link are two."""
    found = {READ: MEMORY, WRITE: MEMORY}
    size = gpus_per_switch(distinct=distinct)
    for switch in range((gpus + size - 1) // size):
        for direction in ("H2D", "D2H"):
            found[f"{direction}-uplink-{switch}"] = uplink_rate(switch, distinct=distinct)
    for rank in range(gpus):
        for direction in ("H2D", "D2H"):
            found[f"{direction}-link-{rank}"] = LINK
    return found


def routes(gpus: int, *, distinct: bool) -> dict[tuple[str, str], tuple[str, ...]]:
    """Names of the links from host memory to every GPU, and from every GPU to every other one through host memory."""
    size = gpus_per_switch(distinct=distinct)
    down = [(READ, f"H2D-uplink-{rank // size}", f"H2D-link-{rank}") for rank in range(gpus)]
    up = [(f"D2H-link-{rank}", f"D2H-uplink-{rank // size}", WRITE) for rank in range(gpus)]
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for rank in range(gpus):
        found[HOST_MEMORY, gpu_name(rank)] = down[rank]
    for here in range(gpus):
        for there in range(gpus):
            if here != there:
                found[gpu_name(here), gpu_name(there)] = up[here] + down[there]
    return found
