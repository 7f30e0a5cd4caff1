"""`offsim calibrate`: starts the processes that measure, watches them, and makes a profile of what they leave.

This process never touches a GPU, so a probe that hangs, a GPU that falls off the bus or a kernel that crashes ends a
worker and not the calibration: samples are on the disk as soon as they are taken, a probe that shows nothing for its
time limit is given up, and the same command goes on where it stopped.
"""

import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from msgspec import structs
from rich.table import Table

from calibration.fit.profile import fit_profile
from calibration.fit.summary import summary_table
from calibration.kernels.build import KernelsUnavailable, built_library
from calibration.probes import PROBES, Probe
from calibration.probes.probe import CalibrationMode
from calibration.samples.inventory import Inventory, NoGPU, refuse_busy_gpus, take_inventory
from calibration.samples.sample_file import Header, SampleFile
from offsim.cli_catalogue import write
from offsim.results.layout import new_table, render
from offsim.scenario.faults import ScenarioError
from offsim.scenario.files import replacing
from offsim.scenario.wording import file_name
from offsim.signals import INTERRUPTED

from .worker_process import MeasuringOutcome, WorkerCommand, run_workers, worker_command

FAILED = 1
TYPICAL = Inventory("NVIDIA GPU", 1, "9.0", 0.0, "", 0.0, "", 1, 0.0, "0" * 12)
"""The machine that a dry run supposes where no GPU is."""


class CalibrateOptions(NamedTuple):
    """What the command line asked a calibration for."""

    mode: CalibrationMode
    out: Path | None
    kernels: bool
    through_host_memory: bool
    limit_seconds: float


class ProbeGroup(NamedTuple):
    """Probes that one set of processes measures into one file."""

    file: str
    inventory: Inventory
    probes: tuple[Probe, ...]
    environment: dict[str, str]


def calibrate_command(order: CalibrateOptions, command: WorkerCommand = worker_command) -> int:
    """Measure this machine, fit a profile and print both; returns the exit code."""
    inventory, without = _inventory(order)
    if command is worker_command and find_spec("torch") is None:
        raise ScenarioError("calibrate needs torch: pip install 'offsim[live]'")
    refuse_busy_gpus("calibrate")
    usual = f"calibration-{inventory.fingerprint}" + ("-quick" if order.mode == "quick" else "")
    folder = order.out or Path("offsim-results") / usual
    order = order._replace(through_host_memory=inventory.gpus > 1 and (order.through_host_memory or _no_peers()))
    try:
        with ExitStack() as locks:
            return _calibrate(order, inventory, without, folder, command, locks)
    except KeyboardInterrupt:
        print(f"\noffsim: interrupted; the same command with --out {file_name(folder)} goes on", file=sys.stderr)
        return INTERRUPTED


def _calibrate(
    order: CalibrateOptions, inventory: Inventory, without: str, folder: Path, command: WorkerCommand, locks: ExitStack
) -> int:
    """Measure each group into its file, which stays locked until all is done."""
    waived: dict[str, str] = {}
    if without:
        waived |= {probe.key: without for probe in PROBES if probe.can_run(structs.replace(inventory, gpus=2))}
    paths = []
    for group in probe_groups(inventory, order):
        path = folder / group.file
        now = datetime.now(UTC).isoformat(timespec="seconds")
        header = Header(order.mode, inventory.fingerprint, group.inventory, now, group.inventory.transport)
        locks.enter_context(SampleFile(path).locked())
        SampleFile(path).begin(header)
        outcome = run_workers(
            path, group.probes, order.mode, group.inventory, order.limit_seconds, command, group.environment
        )
        waived |= outcome.waived
        paths.append(path)
        if outcome.failure:
            return _stopped(outcome, folder)
    try:
        fitted = fit_profile(paths, folder.name)
    except ScenarioError:
        write(render(waived_table(waived)) if waived else "")
        raise
    profile = folder / ("profile-host-memory.toml" if order.through_host_memory else "profile.toml")
    with replacing(profile) as file:
        file.write(fitted.toml.encode())
    write(render(summary_table(fitted.summary)))
    write(render(waived_table(waived)) if waived else "")
    return write(f"node {inventory.fingerprint}: {inventory.gpus} x {inventory.gpu_name}\nprofile: {profile}\n")


def _stopped(outcome: MeasuringOutcome, folder: Path) -> int:
    again = f"the same command with --out {file_name(folder)} goes on"
    print(f"offsim: {outcome.failure}; what was measured is kept, {again}", file=sys.stderr)
    return FAILED


def _inventory(order: CalibrateOptions) -> tuple[Inventory, str]:
    """This machine, and the reason why it has no kernels of ours; the reason is empty if it has them."""
    try:
        inventory = take_inventory()
    except NoGPU as error:
        raise ScenarioError(f"calibrate: {error}; --dry-run lists the probes") from None
    if not order.kernels:
        return inventory, "--no-kernels"
    try:
        built_library(native="sm_" + inventory.compute_capability.replace(".", ""))
    except KernelsUnavailable as error:
        print(f"offsim: {error}", file=sys.stderr)
        return inventory, "the CUDA kernels could not be built"
    return structs.replace(inventory, kernels=True), ""


def _no_peers() -> bool:
    """Whether this environment tells NCCL not to let GPUs reach each other's memory."""
    return os.environ.get("NCCL_P2P_DISABLE", "0").strip() not in ("", "0")


def probe_groups(inventory: Inventory, order: CalibrateOptions) -> list[ProbeGroup]:
    """One GPU's probes, then those of all GPUs together over the transport that was asked for."""
    single = ProbeGroup(
        "samples-1-gpu.jsonl", inventory.using(1, "none"), tuple(p for p in PROBES if not p.several_gpus), {}
    )
    if inventory.gpus == 1:
        return [single]
    transport = "host-memory" if order.through_host_memory else inventory.transport
    environment = {"NCCL_P2P_DISABLE": "1"} if order.through_host_memory else {}
    several = tuple(p for p in PROBES if p.several_gpus or p.key == "overheads")
    whole = inventory.using(inventory.gpus, transport)
    return [single, ProbeGroup(f"samples-{transport}.jsonl", whole, several, environment)]


def dry_run_command(order: CalibrateOptions) -> int:
    """List the probes and what each measures; returns the exit code and needs no GPU."""
    try:
        inventory, supposed = take_inventory(), ""
    except NoGPU as error:
        inventory, supposed = TYPICAL, f"{error}: as one GPU would run them"
    inventory = structs.replace(inventory, kernels=order.kernels)
    table = new_table("probes", "probe", "measures", "identifies", "runs", "waived")
    table.columns[0].no_wrap = True
    for column in (1, 2, 4):
        table.columns[column].justify = "left"
    for probe in PROBES:
        count = len(probe.configurations(order.mode, inventory))
        table.add_row(probe.key, probe.title, ", ".join(probe.identifies), str(count), probe.can_run(inventory))
    return write(render(table) + (f"{supposed}\n" if supposed else ""))


def waived_table(waived: dict[str, str]) -> Table:
    """A table of the probes that were not measured, each with its reason."""
    table = new_table("not measured", "probe", "why", "identifies")
    known = {probe.key: probe for probe in PROBES}
    for key, reason in waived.items():
        table.add_row(key, reason, ", ".join(known[key].identifies) if key in known else "")
    return table
