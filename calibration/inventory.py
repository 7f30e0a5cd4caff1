"""What machine this is: GPUs, driver, processor, memory, transport.

Read with nvidia-smi and from /proc, without torch. The fingerprint changes with the GPUs (by their UUIDs), the driver
or the processor: measured values belong to it. UUIDs themselves are not kept.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct, structs

QUERY = "uuid,name,driver_version,power.limit,memory.total,compute_cap"
PATIENCE = 20.0
"""Seconds that nvidia-smi may take."""


class Inventory(Struct, frozen=True):
    """A machine as its calibration knows it."""

    gpu_name: str
    gpus: int
    compute_capability: str
    memory_bytes: float
    driver: str
    power_limit_watts: float
    cpu: str
    cores: int
    host_memory_bytes: float
    fingerprint: str
    transport: str = "none"
    """none (one GPU), nvlink, pcie or host-memory."""
    kernels: bool = False
    """Whether our own CUDA kernels could be built."""
    topology: str = ""
    """What `nvidia-smi topo -m` prints."""

    def using(self, gpus: int, transport: str) -> "Inventory":
        """The same machine with fewer of its GPUs, or another transport."""
        return structs.replace(self, gpus=gpus, transport=transport)


class NoGPU(Exception):
    """There is nothing to calibrate; says why."""


def take_inventory() -> Inventory:
    """This machine; raises NoGPU."""
    rows = _gpus()
    first = rows[0]
    cpu, cores = _cpu()
    names = ", ".join(sorted({row[1] for row in rows}))
    topology = _output(["nvidia-smi", "topo", "-m"]) if len(rows) > 1 else ""
    return Inventory(
        gpu_name=names,
        gpus=len(rows),
        compute_capability=first[5],
        memory_bytes=float(first[4]) * 2**20,
        driver=first[2],
        power_limit_watts=float(first[3]),
        cpu=cpu,
        cores=cores,
        host_memory_bytes=_host_memory(),
        fingerprint=fingerprint([row[0] for row in rows], first[2], cpu),
        transport="none" if len(rows) == 1 else _transport(topology),
        topology=topology,
    )


def fingerprint(uuids: list[str], driver: str, cpu: str) -> str:
    """Twelve characters that name the machine."""
    text = "\n".join([*sorted(uuids), driver, cpu])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _gpus() -> list[list[str]]:
    if shutil.which("nvidia-smi") is None:
        raise NoGPU("no NVIDIA GPU here (nvidia-smi is not installed)")
    text = _output(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"])
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.count(",") >= 5]
    if not rows:
        raise NoGPU("no NVIDIA GPU here (nvidia-smi lists none)")
    return rows


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoGPU(f"{' '.join(command[:1])} does not answer: {error}") from None


def _transport(topology: str) -> str:
    """What NCCL takes between the GPUs: NVLink where every pair has it, peers below switches, else host memory."""
    links = topology.split("Legend")[0]
    if re.search(r"\bNV\d+\b", links):
        return "nvlink"
    return "pcie" if re.search(r"\b(PIX|PXB)\b", links) else "host-memory"


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
