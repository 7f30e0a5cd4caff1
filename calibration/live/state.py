"""What a device tells of itself: clock, power, temperature, the energy that it has drawn; now, or while something runs.

Read through NVML; a device without it tells nothing.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

from calibration.probes.bench import Watched

from .sensors import sensors
from .session import Session


def device_state(session: Session) -> dict[str, float]:
    """Clock, power, temperature and drawn energy now; empty where the device doesn't tell."""
    if not session.on_gpu:
        return {}
    try:
        return {**sensors(), **_energy()}
    except (ModuleNotFoundError, RuntimeError) as error:
        print(f"no device state: {error}", file=sys.stderr)
        return {}


@contextmanager
def counted_energy(session: Session, found: list[float]) -> Iterator[None]:
    """Add the joules that the device draws while the body runs, where it tells."""
    before = device_state(session).get("energy_J")
    yield
    after = device_state(session).get("energy_J")
    if before is not None and after is not None:
        found.append(after - before)


def _energy() -> dict[str, float]:
    """The energy counter of this process's device, where the driver has one."""
    import pynvml

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        return {"energy_J": pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid)) / 1e3}
    except pynvml.NVMLError as error:
        print(f"no energy counter: {error}", file=sys.stderr)
        return {}


class SensorWatch(threading.Thread):
    """A thread that reads clock and power every 25 ms."""

    def __init__(self, session: Session) -> None:
        super().__init__(daemon=True)
        self.session = session
        self.readings: list[dict[str, float]] = []
        self.trail: list[Watched] = []
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Read the sensors until `finish`."""
        if self.session.on_gpu:
            torch.cuda.set_device(self.session.device.torch_device)  # a new thread's device is the first one
        begin = time.perf_counter()
        while not self._stop_now.wait(0.025):
            now, state = time.perf_counter() - begin, device_state(self.session)
            self.readings.append(state)
            if state:
                names = ("sm_clock_MHz", "power_W", "energy_J", "temperature_C")
                self.trail.append(Watched(now, *(state.get(name, 0.0) for name in names)))

    def finish(self) -> dict[str, float]:
        """Stop, and return medians of the second half of what was read."""
        self._stop_now.set()
        self.join()
        half = self.readings[len(self.readings) // 2 :]
        return {key: median(reading[key] for reading in half) for key in half[0]} if half and half[0] else {}
