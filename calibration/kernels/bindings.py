"""The CUDA kernels as Python functions: ctypes prototypes and one typed wrapper for each function.

Pointers and streams are integers (`tensor.data_ptr()`, `stream.cuda_stream`; stream 0 is the default stream); all work
is on the calling thread's current device. Functions without "seconds" in their name only enqueue. Owns no memory but
gates.
"""

import ctypes
from pathlib import Path
from typing import Any

from .build import KernelsUnavailable, built_library

__all__ = ["CudaError", "Gate", "KernelLibrary", "KernelsUnavailable", "load_kernel_library"]

POINTER = ctypes.c_void_p
UINT64 = ctypes.c_uint64
TIMES = ctypes.POINTER(ctypes.c_float)
INT, FLOAT, SECONDS = ctypes.c_int, ctypes.c_float, ctypes.c_double
_HOST_ACCESS = (POINTER, POINTER, UINT64, UINT64, INT)

PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "offsim_set_device": (INT,),
    "offsim_prepare": (),
    "offsim_gate_create": (ctypes.POINTER(POINTER),),
    "offsim_gate_launch": (POINTER, SECONDS, POINTER),
    "offsim_gate_release": (POINTER,),
    "offsim_gate_timed_out": (POINTER, ctypes.POINTER(INT)),
    "offsim_gate_destroy": (POINTER,),
    "offsim_stamp": (POINTER, POINTER),
    "offsim_triad": (POINTER, POINTER, POINTER, UINT64, FLOAT, POINTER),
    "offsim_triad_timed": (POINTER, POINTER, POINTER, UINT64, FLOAT, INT, TIMES, POINTER),
    "offsim_sm_read": (*_HOST_ACCESS, POINTER),
    "offsim_sm_write": (*_HOST_ACCESS, POINTER),
    "offsim_sm_read_timed": (*_HOST_ACCESS, INT, TIMES, POINTER),
    "offsim_sm_write_timed": (*_HOST_ACCESS, INT, TIMES, POINTER),
    "offsim_hog": (INT, UINT64, POINTER, POINTER),
    "offsim_elementwise": (POINTER, UINT64, FLOAT, FLOAT, POINTER),
    "offsim_relayout": (POINTER, POINTER, UINT64, UINT64, UINT64, POINTER),
}
"""Argument types of the functions that return an error code; `offsim_error_string` is the one that does not."""


class CudaError(Exception):
    """A call of the library failed with a CUDA error code."""

    def __init__(self, code: int, text: str, call: str) -> None:
        super().__init__(f"{call}: {text} (CUDA error {code})")
        self.code, self.text, self.call = code, text, call


class KernelLibrary:
    """The functions of one built library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._functions = ctypes.CDLL(str(path))
            self._declare()
        except (OSError, AttributeError) as error:
            raise KernelsUnavailable(f"{path} could not be loaded ({error})", "remove that file") from error

    def _declare(self) -> None:
        for name, arguments in PROTOTYPES.items():
            function = getattr(self._functions, name)
            function.restype, function.argtypes = INT, arguments
        self._functions.offsim_error_string.restype = ctypes.c_char_p
        self._functions.offsim_error_string.argtypes = (INT,)

    def call(self, name: str, *arguments: Any) -> None:
        """One function of the C interface; raises CudaError if it does not return 0."""
        code = getattr(self._functions, name)(*arguments)
        if code != 0:
            raise CudaError(code, self.error_string(code), name)

    def error_string(self, code: int) -> str:
        """A CUDA error code in words."""
        text: bytes = self._functions.offsim_error_string(code)
        return text.decode()

    def set_device(self, device: int) -> None:
        """Make a GPU the current device of this thread."""
        self.call("offsim_set_device", device)

    def prepare(self) -> None:
        """Load every kernel on the current device, before a gate closes; fails if there is no code for it."""
        self.call("offsim_prepare")

    def gate(self) -> "Gate":
        """A new gate, which kernels of every device can wait at."""
        return Gate(self)

    def stamp(self, slot: int, stream: int) -> None:
        """Write the device's global timer (ns, 8 bytes) to device or pinned memory in stream order."""
        self.call("offsim_stamp", slot, stream)

    def triad(self, a: int, b: int, c: int, bytes_: int, scale: float, stream: int) -> None:
        """Compute a = b + scale * c on three device arrays of `bytes_` each; moves 3 * `bytes_`."""
        self.call("offsim_triad", a, b, c, bytes_, scale, stream)

    def triad_seconds(
        self, a: int, b: int, c: int, bytes_: int, scale: float, iterations: int, stream: int
    ) -> list[float]:
        """Seconds of each of `iterations` triads back to back; waits for them."""
        return self._timed("offsim_triad_timed", (a, b, c, bytes_, scale), iterations, stream)

    def sm_read(self, host: int, device: int, buffer_bytes: int, moved_bytes: int, blocks: int, stream: int) -> None:
        """Let thread blocks read pinned memory into the device until `moved_bytes` crossed the link.

        Both byte counts are multiples of 65,536.
        """
        self.call("offsim_sm_read", host, device, buffer_bytes, moved_bytes, blocks, stream)

    def sm_write(self, host: int, device: int, buffer_bytes: int, moved_bytes: int, blocks: int, stream: int) -> None:
        """Let thread blocks write device memory to pinned memory until `moved_bytes` crossed the link."""
        self.call("offsim_sm_write", host, device, buffer_bytes, moved_bytes, blocks, stream)

    def sm_read_seconds(
        self, host: int, device: int, buffer_bytes: int, moved_bytes: int, blocks: int, iterations: int, stream: int
    ) -> list[float]:
        """Seconds of each of `iterations` reads of `moved_bytes`; waits for them."""
        arguments = (host, device, buffer_bytes, moved_bytes, blocks)
        return self._timed("offsim_sm_read_timed", arguments, iterations, stream)

    def sm_write_seconds(
        self, host: int, device: int, buffer_bytes: int, moved_bytes: int, blocks: int, iterations: int, stream: int
    ) -> list[float]:
        """Seconds of each of `iterations` writes of `moved_bytes`; waits for them."""
        arguments = (host, device, buffer_bytes, moved_bytes, blocks)
        return self._timed("offsim_sm_write_timed", arguments, iterations, stream)

    def hog(self, blocks: int, seconds: float, stream: int, rounds: int = 0) -> None:
        """Let thread blocks run matrix instructions for `seconds`; `rounds`: 8 device bytes that count them, or 0."""
        self.call("offsim_hog", blocks, round(seconds * 1e9), rounds, stream)

    def elementwise(self, values: int, bytes_: int, scale: float, offset: float, stream: int) -> None:
        """Compute y = scale * y + offset in place on bf16; moves 2 * `bytes_`."""
        self.call("offsim_elementwise", values, bytes_, scale, offset, stream)

    def relayout(self, source: int, target: int, rows: int, parts: int, columns: int, stream: int) -> None:
        """Permute (rows, parts, columns) to (parts, rows, columns) on bf16, columns a multiple of 8."""
        self.call("offsim_relayout", source, target, rows, parts, columns, stream)

    def _timed(self, name: str, arguments: tuple[float, ...], iterations: int, stream: int) -> list[float]:
        milliseconds = (ctypes.c_float * max(0, iterations))()
        self.call(name, *arguments, iterations, milliseconds, stream)
        return [value * 1e-3 for value in milliseconds]


class Gate:
    """A kernel that holds streams until the host releases them, and is closed again for what is launched afterwards."""

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library
        self._gate = POINTER()
        library.call("offsim_gate_create", ctypes.byref(self._gate))

    def launch(self, stream: int, timeout_seconds: float = 2.0) -> None:
        """Hold the stream until the next release, at most about `timeout_seconds`."""
        self._library.call("offsim_gate_launch", self._gate, timeout_seconds, stream)

    def release(self) -> None:
        """Let all held streams go."""
        self._library.call("offsim_gate_release", self._gate)

    def timed_out(self) -> bool:
        """Whether a stream of the last release had already given up waiting; ask once the streams are synchronised."""
        answer = INT()
        self._library.call("offsim_gate_timed_out", self._gate, ctypes.byref(answer))
        return bool(answer.value)

    def destroy(self) -> None:
        """Release, wait for the current device and free; a second call does nothing."""
        if self._gate.value:
            self._library.call("offsim_gate_destroy", self._gate)
            self._gate = POINTER()


def load_kernel_library(build_folder: Path | None = None, native: str = "") -> KernelLibrary:
    """The kernels' library, built if need be; raises KernelsUnavailable. `native`: this node's, as "sm_100"."""
    return KernelLibrary(built_library(build_folder, native))
