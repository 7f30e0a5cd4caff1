"""Building the CUDA kernels with nvcc into a cache folder.

Owns where nvcc is looked for, which architectures are built and what a built library is called. The name carries a hash
of the sources and one of the compiler, so a library is never used for other sources; on a node without nvcc one that
was built elsewhere from the same sources is used. Leaves out Windows.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

KERNEL_SOURCES = Path(__file__).parent
CUDA_ARCHITECTURES = ("sm_80", "sm_89", "sm_90")
FLAGS = ("-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC")
USUAL_FOLDER = Path("/usr/local/cuda/bin")
LONGEST_BUILD_S = 600
UNMEASURED = (
    "leaves the HBM triad ceiling, SM reads and writes of host memory and collective-like SM occupancy unmeasured"
)


class KernelsUnavailable(Exception):
    """The kernels cannot be built or loaded; the message is one sentence that says what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}, or go on with --no-kernels, which {UNMEASURED}")


def built_library(build_folder: Path | None = None, native: str = "") -> Path:
    """The shared library of the present sources, built if it is not in the folder (the user's cache by default).

    `native` is an architecture such as "sm_100" to build besides the usual ones if this nvcc knows it.
    """
    folder = build_folder or cache_folder()
    nvcc = find_nvcc()
    if nvcc is None:
        return _built_before(folder)
    architectures = supported(nvcc, native)
    path = folder / library_name(sources_key(), compiler_key(nvcc, architectures))
    if not path.exists():
        _build(nvcc, architectures, path)
    return path


def cache_folder() -> Path:
    """The folder where libraries are kept if none is given: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "offsim" / "kernels"


def find_nvcc() -> Path | None:
    """The compiler on PATH, in CUDA_HOME or in its usual folder."""
    home = os.environ.get("CUDA_HOME")
    folders = [os.environ.get("PATH", ""), str(Path(home) / "bin") if home else "", str(USUAL_FOLDER)]
    found = (shutil.which("nvcc", path=folder) for folder in folders if folder)
    return next((Path(nvcc) for nvcc in found if nvcc), None)


def sources_key() -> str:
    """A hash of the names and contents of all kernel sources."""
    digest = hashlib.sha256()
    for path in sorted([*KERNEL_SOURCES.glob("*.cu"), *KERNEL_SOURCES.glob("*.cuh")]):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def compiler_key(nvcc: Path, architectures: tuple[str, ...]) -> str:
    """A hash of the compiler's version and of what it is asked for."""
    parts = (_output(nvcc, "--version"), *architectures, *FLAGS)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def library_name(sources: str, compiler: str) -> str:
    """The file name of the library of these keys on this kind of processor."""
    return f"offsim-kernels-{platform.machine()}-{sources}-{compiler}.so"


def supported(nvcc: Path, native: str = "") -> tuple[str, ...]:
    """The wanted architectures that this compiler knows."""
    if native and not re.fullmatch(r"sm_\d+[af]?", native):
        raise ValueError(f'native architecture {native!r}: expected the form "sm_90"')
    known = _output(nvcc, "--list-gpu-arch").split()
    wanted = dict.fromkeys((*CUDA_ARCHITECTURES, native) if native else CUDA_ARCHITECTURES)
    chosen = tuple(one for one in wanted if one.replace("sm_", "compute_").rstrip("af") in known)
    if not chosen:
        raise KernelsUnavailable(f"nvcc at {nvcc} knows none of {', '.join(wanted)}", "install another CUDA toolkit")
    return chosen


def first_error(output: str) -> str:
    """The line of a compiler's output that says what went wrong first."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = (line for line in lines if re.search(r"\b(error|fatal)\b", line, re.IGNORECASE))
    return next(telling, lines[0] if lines else "nvcc said nothing")


def _built_before(folder: Path) -> Path:
    found = sorted(folder.glob(library_name(sources_key(), "*")))
    if not found:
        reason = f"the CUDA compiler nvcc is not on PATH, in CUDA_HOME or in {USUAL_FOLDER}"
        raise KernelsUnavailable(reason, "install the CUDA toolkit (nvcc and the CUDA runtime headers)")
    return found[-1]


def _build(nvcc: Path, architectures: tuple[str, ...], path: Path) -> None:
    """Compile beside `path` and rename, so that an interrupted build leaves no library."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=path.parent) as scratch:
            unfinished = Path(scratch) / "kernels.so"
            _output(nvcc, *compile_arguments(architectures), "-o", str(unfinished))
            unfinished.replace(path)
    except OSError as error:
        raise KernelsUnavailable(f"no CUDA kernels in {path.parent} ({error})", "give a folder to build in") from error


def compile_arguments(architectures: tuple[str, ...]) -> list[str]:
    """nvcc's arguments except for the output; later GPUs run what is portable of the last usual architecture."""
    numbers = [one.removeprefix("sm_") for one in architectures]
    portable = [n for n in numbers if f"sm_{n}" in CUDA_ARCHITECTURES][-1:] or numbers[-1:]
    machine = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    forward = [f"-gencode=arch=compute_{n},code=compute_{n}" for n in portable]
    return [*FLAGS, *machine, *forward, *(str(path) for path in sorted(KERNEL_SOURCES.glob("*.cu")))]


def _output(nvcc: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            [str(nvcc), *arguments], capture_output=True, text=True, timeout=LONGEST_BUILD_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailable(f"nvcc at {nvcc} did not run ({error})", "correct the CUDA toolkit") from error
    if result.returncode != 0:
        reason = f"nvcc could not build the CUDA kernels ({first_error(result.stderr + result.stdout)})"
        raise KernelsUnavailable(reason, "correct the CUDA toolkit")
    return result.stdout
