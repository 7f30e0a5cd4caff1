"""What machine this is: GPUs, driver, processor, memory, transport.

Read with nvidia-smi and from /proc, without torch. The fingerprint changes with the GPUs (by their UUIDs), the driver
or the processor: measured values belong to it. UUIDs themselves are not kept. GPUs that CUDA_VISIBLE_DEVICES hides are
not there.
"""

import hashlib
import os
import re
import shutil
import subprocess
import time
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, structs

from offsim.scenario.faults import ScenarioError

QUERY = "index,uuid,name,driver_version,power.limit,memory.total,compute_cap"
NVIDIA_SMI_TIMEOUT = 20.0
"""Seconds that nvidia-smi may take."""
BUSY = 20.0
"""Percent of the last second from which on a GPU is at work: what draws a screen takes less."""
UTILIZATION_READINGS, APART = 3, 0.6


class Inventory(Struct, frozen=True):
    """A machine as its calibration knows it."""

    gpu_name: str
    gpus: int
    compute_capability: str
    memory_bytes: float
    driver: str
    power_limit_watts: float
    """The board's power limit; 0 where the driver does not tell."""
    cpu: str
    cores: int
    host_memory_bytes: float
    fingerprint: str
    transport: str = "none"
    """How collectives go: none (one GPU), nvlink, pcie or host-memory."""
    kernels: bool = False
    """Whether our own CUDA kernels could be built."""
    topology: str = ""
    """What `nvidia-smi topo -m` prints."""

    def using(self, gpus: int, transport: str) -> "Inventory":
        """This machine with fewer of its GPUs, or another transport."""
        return structs.replace(self, gpus=gpus, transport=transport)


class NoGPU(Exception):
    """Says why there is nothing to calibrate."""


class Gpu(NamedTuple):
    """One line of nvidia-smi's answer."""

    number: str
    uuid: str
    name: str
    driver: str
    power_limit: str
    memory_MiB: str  # noqa: N815
    compute_capability: str


def take_inventory() -> Inventory:
    """The inventory of this machine; raises NoGPU."""
    gpus = visible_gpus(_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    first = gpus[0]
    cpu, cores = _cpu()
    names = ", ".join(sorted({gpu.name for gpu in gpus}))
    topology = _output(["nvidia-smi", "topo", "-m"]) if len(gpus) > 1 else ""
    memory = _number(first.memory_MiB)
    if not memory:
        raise NoGPU(f"nvidia-smi does not tell this GPU's memory (memory.total {first.memory_MiB})")
    return Inventory(
        gpu_name=names,
        gpus=len(gpus),
        compute_capability=first.compute_capability,
        memory_bytes=memory * 2**20,
        driver=first.driver,
        power_limit_watts=_number(first.power_limit),
        cpu=cpu,
        cores=cores,
        host_memory_bytes=_host_memory(),
        fingerprint=fingerprint([gpu.uuid for gpu in gpus], first.driver, cpu),
        transport="none" if len(gpus) == 1 else transport_of(topology, [gpu.number for gpu in gpus]),
        topology=topology,
    )


def refuse_busy_gpus(asked_by: str) -> None:
    """Raise ScenarioError where somebody's kernels run on a GPU already: they would be in every number.

    Twenty steps in a row took exactly twice as long beside a process that had been left behind. The driver's share is
    of the last second, in which what has just ended may still show: the lowest of some looks counts. Of several ranks
    the first one looks, for all.
    """
    busy = busy_gpus() if os.environ.get("RANK", "0") == "0" else []
    if busy:
        raise ScenarioError(
            f"{asked_by}: {', '.join(busy)} at work already: what runs there would be in every number; "
            "end it (nvidia-smi names it), or leave that GPU out with CUDA_VISIBLE_DEVICES"
        )


def busy_gpus() -> list[str]:
    """The GPUs that are at work now, as "GPU 1 is 97 %"; none where the driver doesn't tell."""
    looks = []
    for _ in range(UTILIZATION_READINGS):
        looks.append(_utilization())
        if max(looks[-1].values(), default=0.0) < BUSY:
            return []
        time.sleep(APART)
    least = {number: min(look.get(number, 0.0) for look in looks) for number in looks[0]}
    return [f"GPU {number} is {percent:.0f} %" for number, percent in least.items() if percent >= BUSY]


def _utilization() -> dict[str, float]:
    """Percent of the last second in which kernels ran, by number of the visible GPUs; none without nvidia-smi."""
    try:
        shown = {gpu.number for gpu in visible_gpus(_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))}
    except NoGPU:
        return {}
    text = _output(["nvidia-smi", "--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return {row[0]: _number(row[1]) for row in rows if len(row) == 2 and row[0] in shown}


def visible_gpus(gpus: list[Gpu], chosen: str | None) -> list[Gpu]:
    """The GPUs that CUDA shows where CUDA_VISIBLE_DEVICES is `chosen`: up to the first name that it does not know."""
    if chosen is None:
        return gpus
    found: list[Gpu] = []
    for name in (part.strip() for part in chosen.split(",")):
        named = [gpu for gpu in gpus if name and (gpu.number == name or gpu.uuid.startswith(name))]
        if len(named) != 1 or named[0] in found:
            break
        found += named
    if not found:
        raise NoGPU(f"CUDA_VISIBLE_DEVICES={chosen} shows none of this machine's GPUs (there are {len(gpus)})")
    return found


def _number(cell: str) -> float:
    """0 where nvidia-smi says [N/A] or the like."""
    try:
        return float(cell)
    except ValueError:
        return 0.0


def fingerprint(uuids: list[str], driver: str, cpu: str) -> str:
    """Twelve characters that name a machine."""
    text = "\n".join([*sorted(uuids), driver, cpu])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _gpus() -> list[Gpu]:
    if shutil.which("nvidia-smi") is None:
        raise NoGPU("no NVIDIA GPU here (nvidia-smi is not installed)")
    text = _output(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    found = [Gpu(*row) for row in rows if len(row) == len(Gpu._fields)]
    if not found:
        raise NoGPU("no NVIDIA GPU here (nvidia-smi lists none)")
    return found


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoGPU(f"{' '.join(command[:1])} does not answer: {error}") from None


def transport_of(topology: str, indices: list[str]) -> str:
    """What NCCL goes over where these GPUs work together, by the matrix of `nvidia-smi topo -m`: the least of any pair.

    NVLink where every pair has it, peers below PCIe switches, else host memory.
    """
    links = _links(topology)
    pairs = [links.get((f"GPU{a}", f"GPU{b}"), "unknown") for a, b in combinations(indices, 2)]
    if all(re.fullmatch(r"NV\d+", link) for link in pairs):
        return "nvlink"
    return "pcie" if all(re.fullmatch(r"NV\d+|PIX|PXB", link) for link in pairs) else "host-memory"


def _links(topology: str) -> dict[tuple[str, str], str]:
    """(row, column) -> cell, of GPUs: rows have an X where they meet themselves, the header has none."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).split() for line in topology.splitlines()]
    lines = [line for line in lines if line and re.fullmatch(r"GPU\d+", line[0])]
    columns = [name for line in lines if "X" not in line for name in line]
    rows = [line for line in lines if "X" in line]
    return {(row[0], column): cell for row in rows for column, cell in zip(columns, row[1:], strict=False)}


def _cpu() -> tuple[str, int]:
    """Model name and cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return (names[0] if names else "unknown processor"), os.cpu_count() or 1


def _host_memory() -> float:
    """Bytes of host memory: the larger of what the kernel reports and its limit (virtual machines grow on touch)."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
