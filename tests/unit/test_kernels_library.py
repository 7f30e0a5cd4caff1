"""The CUDA kernels' build and binding, on machines with neither a GPU nor nvcc."""

import ctypes
import re
import subprocess

import pytest

from calibration.kernels import bindings, build
from calibration.kernels.bindings import PROTOTYPES, CudaError, KernelLibrary
from calibration.kernels.build import KernelsUnavailable, built_library

VERSION = 'if [ "$1" = --version ]; then echo "release 13.0, $VERSION"; exit; fi\n'
KNOWN = 'if [ "$1" = --list-gpu-arch ]; then printf "compute_80\\ncompute_90\\ncompute_100\\n"; exit; fi\n'
WRITE = 'for last in "$@"; do :; done\necho "$@" > "$last"\n'
FAIL = """echo 'gate.cu(3): warning #177-D: variable was declared but never referenced' >&2
echo 'gate.cu(7): error: identifier "clok64" is undefined' >&2
echo '1 error detected' >&2
exit 2
"""
C_TYPES = {
    "void *": ctypes.c_void_p,
    "void **": ctypes.POINTER(ctypes.c_void_p),
    "uint64_t": ctypes.c_uint64,
    "int": ctypes.c_int,
    "int *": ctypes.POINTER(ctypes.c_int),
    "float": ctypes.c_float,
    "float *": ctypes.POINTER(ctypes.c_float),
    "double": ctypes.c_double,
}


@pytest.fixture
def no_nvcc(monkeypatch, tmp_path):
    """A machine where nvcc is nowhere."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(build, "USUAL_FOLDER", tmp_path / "usual")


@pytest.fixture
def fake_nvcc(monkeypatch, tmp_path):
    """Puts a shell script in nvcc's place that compiles as told."""

    def place(compiling, folder=None):
        bin_ = folder or tmp_path / "bin"
        bin_.mkdir(parents=True, exist_ok=True)
        script = bin_ / "nvcc"
        script.write_text("#!/bin/sh\n" + VERSION + KNOWN + compiling)
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
        return script

    return place


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A folder of sources in place of the real ones."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "one.cu").write_text("one")
    (folder / "common.cuh").write_text("common")
    monkeypatch.setattr(build, "KERNEL_SOURCES", folder)
    return folder


def interface():
    """Name -> (result, argument types) of every extern "C" function of the sources."""
    text = "\n".join(path.read_text() for path in build.KERNEL_SOURCES.glob("*.cu"))
    found = re.findall(r'extern "C" (const char \*|int )(\w+)\(([^)]*)\)', text)
    assert len(found) == text.count('extern "C"')
    return {
        name: (result.strip(), [kind_of(a) for a in arguments.split(",") if a.strip()])
        for result, name, arguments in found
    }


def kind_of(declaration):
    return re.sub(r"\w+$", "", " ".join(declaration.split())).strip()


@pytest.mark.usefixtures("no_nvcc")
def test_without_nvcc_one_sentence_says_what_to_install_how_to_go_on_and_what_stays_unmeasured(tmp_path):
    with pytest.raises(KernelsUnavailable) as error:
        bindings.load_kernel_library(tmp_path)
    sentence = str(error.value)
    expected = (
        "nvcc is not on PATH",
        "install the CUDA toolkit",
        "--no-kernels",
        "HBM triad",
        "SM reads",
        "SM occupancy",
    )
    assert all(part in sentence for part in expected)
    assert "\n" not in sentence


@pytest.mark.usefixtures("no_nvcc")
def test_nvcc_is_found_in_cuda_home_and_in_the_usual_folder(fake_nvcc, monkeypatch, tmp_path):
    usual = fake_nvcc(WRITE, tmp_path / "usual")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert build.find_nvcc() == usual
    home = fake_nvcc(WRITE, tmp_path / "home" / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert build.find_nvcc() == home


def test_a_failing_compilation_shows_the_first_error_and_leaves_nothing(fake_nvcc, tmp_path):
    fake_nvcc(FAIL)
    with pytest.raises(KernelsUnavailable, match=r'\(gate.cu\(7\): error: identifier "clok64" is undefined\)') as error:
        built_library(tmp_path / "cache")
    assert "warning" not in str(error.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_compiler_killed_halfway_leaves_no_library(fake_nvcc, tmp_path):
    fake_nvcc(WRITE + "kill -9 $$\n")
    with pytest.raises(KernelsUnavailable):
        built_library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_build_leaves_no_library(fake_nvcc, monkeypatch, tmp_path):
    fake_nvcc(WRITE)
    real = subprocess.run

    def interrupted(command, **options):
        result = real(command, **options)
        if "-o" in command:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        built_library(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_built_library_is_used_again_until_a_source_changes(fake_nvcc, sources, tmp_path):
    fake_nvcc(WRITE)
    first = built_library(tmp_path / "cache")
    first.write_text("built")
    assert built_library(tmp_path / "cache") == first
    assert first.read_text() == "built"
    (sources / "common.cuh").write_text("changed")
    assert built_library(tmp_path / "cache") != first


@pytest.mark.usefixtures("sources")
def test_another_compiler_and_another_architecture_build_another_library(fake_nvcc, monkeypatch, tmp_path):
    fake_nvcc(WRITE)
    first = built_library(tmp_path / "cache")
    assert built_library(tmp_path / "cache", "sm_100") != first
    monkeypatch.setenv("VERSION", "V13.0.99")
    assert built_library(tmp_path / "cache") != first


def test_only_architectures_that_the_compiler_knows_are_built(fake_nvcc, tmp_path):
    nvcc = fake_nvcc(WRITE)
    assert build.supported(nvcc) == ("sm_80", "sm_90")
    assert build.supported(nvcc, "sm_100") == ("sm_80", "sm_90", "sm_100")
    assert build.supported(nvcc, "sm_130") == ("sm_80", "sm_90")
    with pytest.raises(ValueError, match="expected the form"):
        build.supported(nvcc, "native")
    command = built_library(tmp_path / "cache", "sm_100").read_text()
    assert re.findall(r"\bcode=(\w+)", command) == ["sm_80", "sm_90", "sm_100", "compute_90"]


def test_without_nvcc_a_library_built_from_the_same_sources_is_used(fake_nvcc, sources, monkeypatch, tmp_path):
    fake_nvcc(WRITE)
    built = built_library(tmp_path / "cache")
    monkeypatch.setattr(build, "find_nvcc", lambda: None)
    assert built_library(tmp_path / "cache") == built
    (sources / "one.cu").write_text("changed")
    with pytest.raises(KernelsUnavailable):
        built_library(tmp_path / "cache")


def test_a_library_that_does_not_load_is_unavailable_not_a_crash(fake_nvcc, tmp_path):
    fake_nvcc(WRITE)
    with pytest.raises(KernelsUnavailable, match="could not be loaded"):
        bindings.load_kernel_library(tmp_path / "cache")


def test_a_build_folder_that_cannot_be_made_is_named(fake_nvcc, tmp_path):
    fake_nvcc(WRITE)
    (tmp_path / "file").write_text("")
    with pytest.raises(KernelsUnavailable, match="give a folder to build in"):
        built_library(tmp_path / "file" / "cache")


def test_the_cache_folder_follows_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "offsim" / "kernels"


def test_every_function_of_the_sources_has_its_prototype_and_the_reverse():
    functions = interface()
    assert functions.pop("offsim_error_string") == ("const char *", ["int"])
    assert functions.keys() == PROTOTYPES.keys()
    for name, (result, kinds) in functions.items():
        assert result == "int"
        assert tuple(C_TYPES[kind] for kind in kinds) == PROTOTYPES[name], name


def test_every_function_is_called_by_a_wrapper():
    text = (build.KERNEL_SOURCES / "bindings.py").read_text().split("class KernelLibrary")[1]
    assert {name for name in PROTOTYPES if f'"{name}"' not in text} == set()


class Fake(KernelLibrary):
    """A library whose timed functions write 2 ms and whose other functions return a code."""

    def __init__(self, code=0):
        self.code, self.calls = code, []
        self._functions = self

    def __getattr__(self, name):
        def function(*arguments):
            self.calls.append((name, arguments))
            for argument in arguments:
                if isinstance(argument, ctypes.Array):
                    argument[:] = [2.0] * len(argument)
            return self.code

        return function

    def error_string(self, code):
        return "invalid argument" if code == 1 else ""


def test_a_failing_call_raises_its_code_its_text_and_its_name():
    with pytest.raises(CudaError, match=r"^offsim_prepare: invalid argument \(CUDA error 1\)$") as error:
        Fake(code=1).prepare()
    assert (error.value.code, error.value.text, error.value.call) == (1, "invalid argument", "offsim_prepare")


def test_a_hog_of_half_a_millisecond_is_500000_nanoseconds():
    fake = Fake()
    fake.hog(4, 0.0005, stream=7)
    assert fake.calls == [("offsim_hog", (4, 500_000, 0, 7))]


def test_timed_functions_answer_in_seconds():
    fake = Fake()
    assert fake.triad_seconds(16, 32, 48, 1 << 20, 2.0, 3, 7) == pytest.approx([0.002] * 3)
    name, arguments = fake.calls[0]
    assert (name, arguments[:5], arguments[-1]) == ("offsim_triad_timed", (16, 32, 48, 1 << 20, 2.0), 7)


def test_reads_and_writes_of_host_memory_go_to_their_own_functions():
    fake = Fake()
    fake.sm_read_seconds(16, 32, 65_536, 131_072, 4, 2, 0)
    fake.sm_write_seconds(16, 32, 65_536, 131_072, 4, 2, 0)
    assert [(name, arguments[:5]) for name, arguments in fake.calls] == [
        ("offsim_sm_read_timed", (16, 32, 65_536, 131_072, 4)),
        ("offsim_sm_write_timed", (16, 32, 65_536, 131_072, 4)),
    ]
