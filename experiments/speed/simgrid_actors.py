"""wan27 as native SimGrid actors: its node and streams as text, and the C++ program that simulates them.

simgrid_actors.cpp reads the text. Each line is a link with its rate, a route with its links, or a command of a stream;
what follows `repeat` is done so often. All ranks have the same streams; events lose the number of their layer, since a
layer waits for the latest one only. What blocks the host alone has no line: hosts cost nothing here.
"""

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from offsim.program.commands import COMPUTE, Collective, Command, Compute, Copy, Record, StreamProgram, Wait
from offsim.program.passages import Part, passages_of, stream_of

from .routes import HOST_MEMORY, gpu_name, links, routes
from .workload import COPY, program

SOURCE = Path(__file__).with_suffix(".cpp")
COMPILERS = ("g++", "c++", "clang++")
HEADER = "include/simgrid/s4u.hpp"


def workload_text(gpus: int, steps: int, *, distinct: bool) -> str:
    """The workload in the program's words: seconds, bytes and bytes/s."""
    lines = [f"memory {HOST_MEMORY}", *(f"rank {gpu_name(rank)}" for rank in range(gpus))]
    lines += [f"link {name} {rate!r}" for name, rate in links(gpus, distinct=distinct).items()]
    lines += [" ".join(("route", *ends, *names)) for ends, names in routes(gpus, distinct=distinct).items()]
    return "\n".join([*lines, *_streams(program(gpus, steps))]) + "\n"


def _streams(ours: StreamProgram) -> Iterator[str]:
    """Every stream: what it does once, before the first layer, and what it does in each layer."""
    load, *steps = ours.sections
    layers = [part for step in steps for passage in passages_of(step.commands) for part in passage if _is_layer(part)]
    for stream in (COMPUTE, COPY):
        yield f"stream {stream}"
        yield from _of_stream(stream, load.commands, ours.ranks)
        yield f"repeat {len(layers)}"
        (layer,) = {tuple(_of_stream(stream, part.commands(), ours.ranks)) for part in layers}
        yield from layer


def _is_layer(part: Part) -> bool:
    return part.template is not None


def _of_stream(stream: str, commands: Iterable[Command], ranks: int) -> Iterator[str]:
    return (_line(command, ranks) for command in commands if stream_of(command) == stream)


def _line(command: Command, ranks: int) -> str:
    match command:
        case Compute(kernels=kernels):
            # Device memory moves 1 byte/s on this node, so that bytes are seconds.
            return f"kernel {sum(kernel.bytes for kernel in kernels)!r}"
        case Copy(bytes=bytes_):
            return f"copy {bytes_:.0f}"
        case Collective(bytes=bytes_):
            return f"all-to-all {bytes_ / (ranks - 1):.0f}"
        case Record(event=event):
            return f"record {event.split()[-1]}"
        case Wait(event=event):
            return f"wait {event.split()[-1]}"
    raise ValueError(f"no stream's command: {command!r}")


def missing() -> str | None:
    """What the program cannot be built without and is not there; None if it can be built."""
    lacks = []
    if _compiler() is None:
        lacks.append(f"a C++ compiler ({', '.join(COMPILERS)}, or one named by CXX)")
    if _prefix() is None:
        lacks.append(f"SimGrid's headers ({HEADER} beside a directory of LD_LIBRARY_PATH, in /usr/local or in /usr)")
    return " and ".join(lacks) or None


def _compiler() -> str | None:
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    return next((found for name in names if (found := shutil.which(name))), None)


def _prefix() -> Path | None:
    """Where SimGrid is installed."""
    named = [Path(directory).parent for directory in os.environ.get("LD_LIBRARY_PATH", "").split(":") if directory]
    return next((prefix for prefix in (*named, Path("/usr/local"), Path("/usr")) if (prefix / HEADER).is_file()), None)


@cache
def compiled() -> Path:
    """The program, compiled with -O2; it is there until this process ends."""
    compiler, prefix = _compiler(), _prefix()
    if compiler is None or prefix is None:
        raise FileNotFoundError(f"cannot compile {SOURCE.name} without {missing()}")
    directory = TemporaryDirectory()
    atexit.register(directory.cleanup)
    made, library = Path(directory.name) / SOURCE.stem, prefix / "lib"
    where = [f"-I{prefix / 'include'}", f"-L{library}", f"-Wl,-rpath,{library}"]
    words = [compiler, "-std=c++17", "-O2", str(SOURCE), *where, "-lsimgrid", "-o", str(made)]
    answer = subprocess.run(words, capture_output=True, text=True)
    if answer.returncode:
        raise OSError(f"{' '.join(words)} failed:\n{answer.stderr}")
    return made


def run(gpus: int, steps: int, *, distinct: bool) -> str:
    """What the program prints about a run: JSON."""
    text = workload_text(gpus, steps, distinct=distinct)
    return subprocess.run([compiled()], input=text, capture_output=True, text=True, check=True).stdout
