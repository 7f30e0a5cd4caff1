"""What README and docs show is what happens: commands, Python, files and links.

Console blocks are run in a folder of their page's, in order, as a reader would: `$ ` begins a command, and its output
has to be the one below it (see tests/doc_page.py for what may be left out).
"""

import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from offsim.scenario.scenario import Simulation
from offsim.scenario.workload import Workload
from tests import doc_page
from tests.doc_page import (
    LINK,
    MODULE,
    NAMED,
    ROOT,
    Block,
    DocPage,
    anchors,
    console_commands,
    doc_pages,
    is_shown,
    not_printed,
)

PAGES = {path.relative_to(ROOT).as_posix(): doc_page.read_page(path) for path in doc_pages()}
RUN = [name for name, page in PAGES.items() if any(block.language in ("console", "python") for block in page.blocks)]
LONGEST_FRONT_PAGE = 120
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.mark.parametrize("name", RUN)
def test_what_a_page_shows_is_what_happens(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in PAGES[name].blocks:
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block.language == "console" and not block.not_run:
            run_console(block, tmp_path)
        if block.language == "python" and not (block.not_run or block.source):
            run_python(block, names, name)


def run_console(block: Block, folder: Path) -> None:
    """Every command of a block has to print what the block shows."""
    for command in console_commands(block.text):
        found = printed(command.line, folder)
        lacking = not_printed(command.shown, found)
        assert is_shown(command.shown, found), f"$ {command.line}\n{found}\nnot printed:\n{lacking}"


def printed(line: str, folder: Path) -> str:
    """What a command prints; with the errors if it fails."""
    program, *arguments = shlex.split(line, comments=True)
    assert program == "offsim" or (program, arguments[0]) == ("python", "-m"), f"{line}: offsim or python -m"
    words = ["-m", "offsim", *arguments] if program == "offsim" else arguments
    kept = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    environment = {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    return done.stdout + (done.stderr if done.returncode else "")


def run_python(block: Block, names: dict[str, Any], page: str) -> None:
    """A block's examples, with the names that earlier ones have left."""
    assert ">>> " in block.text, f"{page}, line {block.line}: Python is shown as a session, or marked"
    test = doctest.DocTestParser().get_doctest(block.text, names, page, page, block.line)
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append, clear_globs=False)
    names |= test.globs
    assert not failed, "".join(said)


@pytest.mark.parametrize("name", PAGES)
def test_links_and_names_of_files_lead_somewhere(name: str) -> None:
    page = PAGES[name]
    dead = [target for target in LINK.findall(page.prose) if not leads_somewhere(page, target)]
    dead += [path for path in NAMED.findall(page.prose) if not exists(path)]
    everywhere = page.prose + "".join(block.text for block in page.blocks)
    dead += [module for module in MODULE.findall(everywhere) if not is_module(module)]
    assert dead == []


def leads_somewhere(page: DocPage, target: str) -> bool:
    """Whether a link's target is there; what stands elsewhere is not looked up."""
    if re.match(r"https?://", target):
        return True
    file, _, anchor = target.partition("#")
    path = page.path if not file else page.path.parent / file
    return path.exists() and (not anchor or anchor in anchors(path.read_text(encoding="utf-8")))


def exists(path: str) -> bool:
    """Whether a file or folder of the project, or any of a pattern, is there."""
    return any(ROOT.glob(path.rstrip("/"))) if "*" in path else (ROOT / path).exists()


def is_module(name: str) -> bool:
    """Whether python -m would find it."""
    path = ROOT / name.rstrip(".").replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()


@pytest.mark.parametrize("name", PAGES)
def test_blocks_say_what_they_are(name: str) -> None:
    for block in PAGES[name].blocks:
        assert block.language in ("console", "python", "toml", "text"), f"line {block.line}: {block.language!r}"
        if block.language == "toml":
            tomllib.loads(block.text)
        if block.source:
            assert block.text in (ROOT / block.source).read_text(encoding="utf-8"), f"not in {block.source}"


def test_the_front_page_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_FRONT_PAGE


def test_the_front_page_has_the_two_commands_that_ci_runs() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for words in ("$ pip install . &&", '$ pip install -e ".[test]" &&'):
        assert [line for line in lines if words in line][:1] == [line for line in lines if line.startswith(words)]


@pytest.mark.parametrize("kind", [Workload, Simulation])
def test_every_key_of_a_scenario_is_explained(kind: Any) -> None:
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    assert [key for key in kind.__struct_fields__ if f"`{key}" not in page] == []


def test_every_page_of_docs_is_linked_from_another() -> None:
    linked = {(page.path.parent / target).resolve() for page in PAGES.values() for target in LINK.findall(page.prose)}
    assert [name for name, page in PAGES.items() if name.startswith("docs/") and page.path not in linked] == []


def test_an_output_may_be_shown_in_part() -> None:
    assert is_shown("...\nb <3> c\n", "a\nb 12.5 c\n")
    assert not is_shown("a\nc\n", "a\nb\nc\n")
    assert not is_shown("a\n", "a\nb\n")
    assert not is_shown("", "a\n")
