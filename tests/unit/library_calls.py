"""What an offloading library calls, recorded on a machine without an accelerator.

The library is told that its model's weights move to a device: tensors say that they are there, `to` makes a copy and
notes it, streams and pinned memory are stand-ins that note what is asked of them. Everything is computed on the CPU.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

DEVICE, HOST = torch.device("cuda", 0), torch.device("cpu")
COMPUTE, COPY = "compute", "copy"


class Call(NamedTuple):
    """Something that the library asked for; of one group of tensors where it concerns weights."""

    kind: str
    """H2D, D2H, free, synchronize, kernels, pin, empty cache."""
    stream: str
    group: str = ""
    bytes: int = 0
    tensors: int = 0
    memory: str = ""
    recorded: bool = False
    """Of memory that is freed: whether the compute stream was recorded on it."""


class Stream:
    """Stands in for a stream."""

    def __init__(self, calls: "Recorder", name: str) -> None:
        self.calls, self.name = calls, name

    def synchronize(self) -> None:
        self.calls.note(Call("synchronize", self.name))


class Backend:
    """Stands in for torch.cuda."""

    def __init__(self, calls: "Recorder") -> None:
        self.calls = calls
        self.current = Stream(calls, COMPUTE)

    def Stream(self) -> Stream:  # noqa: N802
        return Stream(self.calls, COPY)

    def current_stream(self) -> Stream:
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class Recorder(TorchFunctionMode):
    """Notes calls; knows of every weight whether it is on the host, pinned, or on the device."""

    def __init__(self, groups: dict[str, str]) -> None:
        super().__init__()
        self.groups = groups
        """Group of each weight, by the weight's name."""
        self.found: list[Call] = []
        self.backend = Backend(self)
        self._host: dict[int, str] = {}
        self._pinned: set[int] = set()
        self._device: dict[int, str] = {}
        self._recorded: set[int] = set()
        self._kept: list[Any] = []

    def know(self, model: Any, prefix: str = "") -> None:
        """The model's weights, which are on the host."""
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._host[tensor.data_ptr()] = prefix + name
            self._keep(tensor)

    def note(self, call: Call) -> None:
        """One call more."""
        self.found.append(call)

    def record_stream(self, tensor: Any, stream: Stream) -> None:
        """Stands in for Tensor.record_stream."""
        assert stream.name == COMPUTE
        self._recorded.add(tensor.data_ptr())

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == torch.Tensor.device.__get__:
            return HOST if args[0].data_ptr() in self._host and args[0].is_cpu else DEVICE
        if func == torch.Tensor.to:
            return self._to(func, *args, **kwargs)
        if func == torch.Tensor.pin_memory:
            return self._pin(args[0])
        if func == torch.Tensor.is_pinned:
            return args[0].data_ptr() in self._pinned
        if isinstance(kwargs.get("device"), torch.device) and kwargs["device"].type == "cuda":
            kwargs = kwargs | {"device": HOST}
        return func(*args, **kwargs)

    def _to(self, func: Any, tensor: Any, *args: Any, **kwargs: Any) -> Any:
        target, options = _device_of(args, kwargs)
        pointer = tensor.data_ptr()
        if target is None or target.type == "meta":
            return func(tensor, *args, **kwargs)
        if target.type == "cuda" and pointer in self._host:
            return self._moved_in(tensor, options)
        if target.type == "cpu" and pointer in self._device:
            return self._moved_out(tensor)
        return tensor

    def _moved_in(self, tensor: Any, non_blocking: bool) -> Any:
        pointer = tensor.data_ptr()
        name, pinned, stream = self._host[pointer], pointer in self._pinned, self.backend.current
        self._copy("H2D", name, tensor, "pinned" if pinned else "pageable")
        if pinned and not non_blocking:
            stream.synchronize()
        copy = tensor.detach().clone()
        self._device[copy.data_ptr()] = name
        weakref.finalize(copy.untyped_storage(), self._freed, copy.data_ptr())
        return copy

    def _moved_out(self, tensor: Any) -> Any:
        name = self._device[tensor.data_ptr()]
        self._copy("D2H", name, tensor, "fresh")
        copy = tensor.detach().clone()
        self._host[copy.data_ptr()] = name
        self._keep(copy)
        return copy

    def _keep(self, tensor: Any) -> None:
        """Host memory stays, so that nothing else comes to lie where a weight was; not the object, which may move."""
        self._kept.append(tensor.detach())

    def _copy(self, kind: str, name: str, tensor: Any, memory: str) -> None:
        size = tensor.numel() * tensor.element_size()
        self.note(Call(kind, self.backend.current.name, self.groups[name], size, 1, memory))

    def _freed(self, pointer: int) -> None:
        """A weight's device memory is gone; noted when it was the last of its group."""
        group = self.groups[self._device.pop(pointer)]
        recorded = pointer in self._recorded
        self._recorded.discard(pointer)
        if group not in {self.groups[name] for name in self._device.values()}:
            self.note(Call("free", "", group, recorded=recorded))

    def _pin(self, tensor: Any) -> Any:
        copy = tensor.detach().clone()
        name = self._host[tensor.data_ptr()]
        self._host[copy.data_ptr()] = name
        self._pinned.add(copy.data_ptr())
        self._keep(copy)
        self.note(Call("pin", "", self.groups[name]))
        return copy

    def watch(self, model: Any) -> None:
        """Note when a module with weights of its own runs."""
        for name, module in model.named_modules():
            if any(own is not None for own in (*module._parameters.values(), *module._buffers.values())):
                module.forward = self._watched(name, module.forward)

    def _watched(self, name: str, forward: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            self.note(Call("kernels", COMPUTE, name))
            return forward(*args, **kwargs)

        return noted


def _device_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.device | None, bool]:
    """The device that `to` names, and whether it may return before the copy has ended."""
    named = kwargs.get("device", args[0] if args else None)
    if isinstance(named, str):
        named = torch.device(named)
    positional = args[2] if len(args) > 2 and isinstance(args[2], bool) else False
    return named if isinstance(named, torch.device) else None, kwargs.get("non_blocking", positional)


def joined(calls: list[Call]) -> list[Call]:
    """Calls with those of one group in one: copies tensor by tensor, with what each brings along in between."""
    found: list[Call] = []
    for call in calls:
        last = next((i for i in range(len(found) - 1, -1, -1) if found[i].kind not in ALONG), None)
        if last is not None and _continues(found[last], call):
            before = found[last]
            found[last] = before._replace(bytes=before.bytes + call.bytes, tensors=before.tensors + call.tensors)
            along = [c for c in found[last + 1 :] if c.kind != "synchronize"]
            del found[last + 1 :]
            found += along
        elif not (call.kind in ("pin", "empty cache") and found and found[-1] == call):
            found.append(call)
    return found


ALONG = ("synchronize", "empty cache")
"""What may stand between two tensors of one group: what a blocking copy waits for, what accelerate does after each."""


def _continues(one: Call, other: Call) -> bool:
    same = (one.kind, one.stream, one.group, one.memory) == (other.kind, other.stream, other.group, other.memory)
    return same and one.kind in ("H2D", "D2H")
