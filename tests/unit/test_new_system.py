"""A new system is one page and one golden text: every verb finds it, and no other file changes."""

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

import offsim

HERE = Path(__file__).parents[1] / "new_system"
SCENARIO = """
extends = "wan2.2-8xh100-nvlink-layerwise"
policy = {{ name = "one-by-one", pieces = {pieces} }}
workload = {{ steps = 3 }}
"""
SECOND_BLOCK = "  host    | allocate    | transformer.blocks.1 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the package with one more page, and a scenario of it."""
    folder = tmp_path_factory.mktemp("new")
    copytree(Path(offsim.__file__).parent, folder / "offsim", ignore=ignore_patterns("__pycache__", "*.so"))
    (folder / "offsim/program/systems/one_by_one.py").write_bytes((HERE / "page.py").read_bytes())
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
