"""Streams, events and memory of a live device: CUDA, or a CPU that imitates streams for tests.

The CPU device keeps a queue per stream and runs queued work only when something waits for it, choosing among the
streams at random: a program that lacks a wait gives wrong results there, as it may on a GPU.
"""

import random
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import torch

from offsim.program.commands import COMPUTE, HOST_POOLS

from .pinned import PinnedMemory

QueuedWork = Callable[[], object]


class DeviceEvent(Protocol):
    """A recorded event."""

    def seconds_since(self, earlier: Any) -> float:
        """Seconds from an earlier event to this one, after both were reached."""
        ...


class LiveDevice(Protocol):
    """What the executor needs of a device."""

    torch_device: Any
    timed: bool
    high_priority: frozenset[str]
    """Streams that are made with the highest priority from now on."""

    def put(self, stream: str, work: QueuedWork) -> None:
        """Run `work` in order on a stream."""
        ...

    def record(self, stream: str) -> Any:
        """Record a new event at the stream's tail, and return it."""
        ...

    def wait(self, stream: str, event: Any) -> None:
        """Let the stream wait for an event."""
        ...

    def synchronize(self, scope: str, target: Any = None) -> None:
        """Let the host wait for an event, a stream's tail or everything."""
        ...

    def empty(self, bytes_: int, pool: str) -> Any:
        """A tensor of new bytes, in host memory or from the pool of a stream."""
        ...

    def record_use(self, memory: Any, streams: tuple[str, ...]) -> None:
        """Let memory that is about to be freed be used again only when these streams have got here."""
        ...

    def gate(self, streams: list[str], seconds: float) -> Any:
        """Hold all these streams for about `seconds`; returns the event of their release."""
        ...


class CudaEvent:
    """A CUDA event."""

    __slots__ = ("raw",)

    def __init__(self, stream: Any, *, timed: bool) -> None:
        self.raw = torch.cuda.Event(enable_timing=timed)
        self.raw.record(stream)

    def seconds_since(self, earlier: "CudaEvent") -> float:
        return float(earlier.raw.elapsed_time(self.raw)) / 1e3


class CudaDevice:
    """One GPU; the compute stream is torch's current one."""

    def __init__(self, index: int) -> None:
        torch.cuda.set_device(index)
        self.torch_device = torch.device("cuda", index)
        self.timed = True
        self.pinned = PinnedMemory(pin=True)
        self.high_priority: frozenset[str] = frozenset()
        self._streams: dict[tuple[str, int], Any] = {(COMPUTE, 0): torch.cuda.current_stream()}
        self._cycles_per_second = 0.0

    def stream(self, name: str) -> Any:
        """The CUDA stream of that name and priority, made on first use."""
        key = (name, -1 if name in self.high_priority else 0)
        if key not in self._streams:
            self._streams[key] = torch.cuda.Stream(priority=key[1])
        return self._streams[key]

    def put(self, stream: str, work: QueuedWork) -> None:
        """Run `work` in order on a stream; kernels of the compute stream need no stream context."""
        if stream == COMPUTE:
            work()
            return
        with torch.cuda.stream(self.stream(stream)):
            work()

    def record(self, stream: str) -> CudaEvent:
        """Record a new CUDA event at the stream's tail, and return it."""
        return CudaEvent(self.stream(stream), timed=self.timed)

    def wait(self, stream: str, event: CudaEvent) -> None:
        """Let the stream wait for an event."""
        self.stream(stream).wait_event(event.raw)

    def synchronize(self, scope: str, target: Any = None) -> None:
        """Let the host wait for an event, a stream's tail or the device."""
        if scope == "device":
            torch.cuda.synchronize()
        elif scope == "stream":
            self.stream(target).synchronize()
        else:
            target.raw.synchronize()

    def empty(self, bytes_: int, pool: str) -> Any:
        """A tensor of new bytes; device memory comes from torch's pool of that stream, as the program says."""
        if pool == "pinned":
            return self.pinned.take(bytes_)
        if pool in HOST_POOLS:
            return torch.empty(bytes_, dtype=torch.uint8)
        if pool == COMPUTE:
            return torch.empty(bytes_, dtype=torch.uint8, device=self.torch_device)
        with torch.cuda.stream(self.stream(pool)):
            return torch.empty(bytes_, dtype=torch.uint8, device=self.torch_device)

    def record_use(self, memory: Any, streams: tuple[str, ...]) -> None:
        """Let memory that is about to be freed be used again only when these streams have got here."""
        for stream in streams:
            memory.record_stream(self.stream(stream))

    def gate(self, streams: list[str], seconds: float) -> CudaEvent:
        """Hold all these streams by a kernel that spins on the compute stream; returns the event of its end."""
        torch.cuda._sleep(int(seconds * self._spin_rate()))
        released = self.record(COMPUTE)
        for name in streams:
            if name != COMPUTE:
                self.wait(name, released)
        return released

    def _spin_rate(self) -> float:
        """Cycles per second of the spinning kernel, measured once."""
        if not self._cycles_per_second:
            for cycles in (1_000_000, 20_000_000):
                begin = self.record(COMPUTE)
                torch.cuda._sleep(cycles)
                end = self.record(COMPUTE)
                self.synchronize("device")
                self._cycles_per_second = cycles / end.seconds_since(begin)
        return self._cycles_per_second


class CpuEvent:
    """An event of an imitated stream."""

    __slots__ = ("instant",)

    def __init__(self) -> None:
        self.instant: float | None = None

    def seconds_since(self, earlier: "CpuEvent") -> float:
        assert self.instant is not None and earlier.instant is not None
        return self.instant - earlier.instant


class CpuDevice:
    """A device that has queues instead of streams; `seed` None runs work in the order of issue, else at random."""

    def __init__(self, seed: int | None = None) -> None:
        self.torch_device = torch.device("cpu")
        self.timed = True
        self.pinned = PinnedMemory(pin=False)
        self.high_priority: frozenset[str] = frozenset()
        self._random = None if seed is None else random.Random(seed)
        self._queues: dict[str, deque[QueuedWork | CpuEvent | tuple[CpuEvent]]] = {COMPUTE: deque()}

    def put(self, stream: str, work: QueuedWork) -> None:
        """Queue `work` on an imitated stream."""
        self._push(stream, work)

    def record(self, stream: str) -> CpuEvent:
        """Queue a new event on an imitated stream, and return it."""
        event = CpuEvent()
        self._push(stream, event)
        return event

    def wait(self, stream: str, event: CpuEvent) -> None:
        """Let the imitated stream wait for an event."""
        self._push(stream, (event,))

    def _push(self, stream: str, item: "QueuedWork | CpuEvent | tuple[CpuEvent]") -> None:
        self._queues.setdefault(stream, deque()).append(item)
        if self._random is None:
            self.synchronize("device")

    def synchronize(self, scope: str, target: Any = None) -> None:
        """Run queued work until what is awaited has happened."""
        while not self._reached(scope, target):
            ready = [name for name, queue in self._queues.items() if queue and self._may_run(queue[0])]
            assert ready, "imitated streams wait for each other"
            self._step(self._queues[self._random.choice(ready) if self._random else ready[0]])

    def _reached(self, scope: str, target: Any) -> bool:
        if scope == "event":
            return target.instant is not None
        queues = self._queues.values() if scope == "device" else [self._queues.get(target, deque())]
        return not any(queues)

    def _may_run(self, item: "QueuedWork | CpuEvent | tuple[CpuEvent]") -> bool:
        return not isinstance(item, tuple) or item[0].instant is not None

    def _step(self, queue: "deque[QueuedWork | CpuEvent | tuple[CpuEvent]]") -> None:
        item = queue.popleft()
        if isinstance(item, CpuEvent):
            item.instant = perf_counter()
        elif not isinstance(item, tuple):
            item()

    def empty(self, bytes_: int, pool: str) -> Any:
        """A tensor of new bytes; device memory holds what nobody should read."""
        if pool == "pinned":
            return self.pinned.take(bytes_)
        return torch.full((bytes_,), 0x7F, dtype=torch.uint8)

    def record_use(self, memory: Any, streams: tuple[str, ...]) -> None:
        """Nothing to do: queued work holds on to the memory that it uses."""

    def gate(self, streams: list[str], seconds: float) -> CpuEvent:  # noqa: ARG002
        """An event of the compute stream: there is nothing to hold."""
        return self.record(COMPUTE)
