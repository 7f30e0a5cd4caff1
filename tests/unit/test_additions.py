"""A new system is one page and one golden text, a new GPU a few lines of data: every verb finds them.

No other file changes.
"""

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

import offsim

HERE = Path(__file__).parents[1] / "additions"
SCENARIO = """
extends = "wan2.2-8xh100-nvlink-layerwise"
policy = {{ name = "one-by-one", pieces = {pieces} }}
workload = {{ steps = 3 }}
"""
ON_THE_GPU = """
model = "flux.1-dev"
policy = "sglang-layerwise"
workload = { width = 512, height = 512, steps = 3 }
[node]
gpu = "rtx3060"
host = { extends = "two-socket-x86", memory_GB = 64 }
wiring = { extends = "pcie4-x16-x8", gpus = 1 }
"""
SECOND_BLOCK = "  host    | allocate    | transformer.blocks.1 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the package with one more page and one more GPU, and scenarios of them."""
    folder = tmp_path_factory.mktemp("new")
    copytree(Path(offsim.__file__).parent, folder / "offsim", ignore=ignore_patterns("__pycache__", "*.so"))
    (folder / "offsim/program/systems/one_by_one.py").write_bytes((HERE / "page.py").read_bytes())
    (folder / "offsim/scenario/catalogue/gpus/rtx3060.toml").write_bytes((HERE / "rtx3060.toml").read_bytes())
    (folder / "gpu.toml").write_text(ON_THE_GPU)
    (folder / "case.toml").write_text(SCENARIO.format(pieces=2))
    (folder / "refused.toml").write_text(SCENARIO.format(pieces=0))
    return folder


def answer(folder, *arguments):
    """What one command says, on both outputs."""
    done = subprocess.run([sys.executable, "-m", "offsim", *arguments], cwd=folder, capture_output=True, text=True)
    return done.stdout or done.stderr


def test_lists_and_descriptions_have_it(folder):
    assert "one-by-one" in answer(folder, "policies")
    assert "Copies that a block comes in." in answer(folder, "show", "one-by-one")


def test_a_near_name_is_answered_with_it(folder):
    assert "one-by-one" in answer(folder, "show", "one-by-on")


def test_a_run_names_it_with_what_is_not_at_its_default(folder):
    assert "one-by-one (pieces = 2)" in answer(folder, "run", "case.toml")
    assert json.loads(answer(folder, "run", "case.toml", "--json"))["scenario"]["policy"] == "one-by-one"


def test_its_own_reason_refuses_a_scenario(folder):
    assert "refused.toml: policy.pieces=0: expected at least one" in answer(folder, "run", "refused.toml")


def test_its_program_is_the_golden_text(folder):
    first_block, found, _ = answer(folder, "program", "case.toml", "--steps", "1").partition(SECOND_BLOCK)
    assert found
    assert first_block == (HERE / "program.txt").read_text()


def test_a_search_offers_its_launch_line_and_says_that_it_was_never_compared(folder):
    found = answer(folder, "best", "case.toml", "--vram", "20")
    assert "Made-up 1.0\n--one-by-one 1" in found
    assert "inputs only" in found


def test_a_gpu_is_at_most_twelve_lines_of_data():
    assert len((HERE / "rtx3060.toml").read_text().splitlines()) <= 12


def test_lists_and_descriptions_have_the_gpu(folder):
    assert "rtx3060" in answer(folder, "nodes")
    assert "322 GB/s" in answer(folder, "show", "rtx3060")


def test_near_names_are_answered_with_the_gpu(folder):
    assert "rtx3060" in answer(folder, "show", "rtx3061")
    (folder / "near.toml").write_text(ON_THE_GPU.replace('"rtx3060"', '"rtx3061"'))
    assert "node.gpu='rtx3061'" in answer(folder, "run", "near.toml")
    assert "did you mean rtx3060" in answer(folder, "run", "near.toml")


def test_a_run_names_the_gpu_and_its_memory_limits_it(folder):
    text = answer(folder, "run", "gpu.toml")
    assert "rtx-3060-x1: 1 x RTX 3060" in text
    assert "of 10.70 GiB per GPU" in text  # 11.6 less the context's 0.9
    assert json.loads(answer(folder, "run", "gpu.toml", "--json"))["scenario"]["node"] == "rtx-3060-x1"


def test_a_search_on_the_gpu_has_launch_lines(folder):
    assert "--dit-layerwise-offload true" in answer(folder, "best", "gpu.toml")
