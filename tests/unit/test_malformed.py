"""Malformed scenarios: a one-line error that names file, key, value and what is allowed, and exit code 2."""

import subprocess
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from offsim.program.load import load_scenario, parse_scenario
from offsim.scenario.faults import ScenarioError
from offsim.scenario.load import load_model, load_node
from tests.malformed.mutations import FOLDER, GOOD, Malformed, good, mutations, toml

HAND_MADE = sorted(FOLDER.glob("*.toml"))
LONGEST = 300
ALLOWED = ("expected", "allowed are", "missing", "must be", "needs", "given twice", "this version reads")
"""One of these introduces what would have been right."""
COMMAND_LINE = [
    "not-toml",
    "schema-three",
    "without-policy",
    "unknown-key-close",
    "extends-itself",
    "model-unknown",
    "unit-missing",
    "rate-nan",
    "six-gpus",
    "value-with-escapes",
    "points-unsorted",
    "integer-with-5000-hex-digits",
]


def header(path: Path, word: str) -> list[str]:
    """What a malformed file's comments say it breaks (`rule`) or what its error contains (`expect`)."""
    start = f"# {word}: "
    return [line[len(start) :] for line in path.read_text().splitlines() if line.startswith(start)]


@cache
def generated() -> dict[str, list[Malformed]]:
    """The mutations of the good file, by rule."""
    rules: dict[str, list[Malformed]] = defaultdict(list)
    for malformed in mutations():
        rules[malformed.rule].append(malformed)
    return rules


def error_of(path: Path) -> str:
    """The message with which a scenario file is refused, which every message must look like."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    return presentable(str(caught.value), path)


def presentable(message: str, path: Path) -> str:
    assert message.isprintable()
    assert len(message.replace(str(path.parent), "")) <= LONGEST, message
    return message


def test_the_good_file_that_the_others_change_is_good() -> None:
    assert load_scenario(GOOD).name == "tiny-on-box"
    assert parse_scenario(good(), GOOD) == load_scenario(GOOD)


def test_there_are_many_files_and_rules() -> None:
    hand_made = {rule for path in HAND_MADE for rule in header(path, "rule")}
    assert len(HAND_MADE) >= 150
    assert len(hand_made) >= 60
    assert sum(map(len, generated().values())) >= 1000
    assert len(generated()) >= 30
    assert not hand_made & generated().keys()


@pytest.mark.parametrize("path", HAND_MADE, ids=lambda path: path.stem)
def test_a_hand_made_file_gives_the_error_that_it_says(path: Path) -> None:
    message = error_of(path)
    assert message.startswith(str(path.parent))
    assert header(path, "rule") and header(path, "expect")
    for part in header(path, "expect"):
        assert part in message


@pytest.mark.parametrize("rule", sorted(generated()))
def test_a_mutation_of_the_good_file_names_file_key_and_what_is_allowed(rule: str) -> None:
    path = FOLDER / "mutated.toml"
    for malformed in generated()[rule]:
        with pytest.raises(ScenarioError) as caught:
            accepted = parse_scenario(malformed.document, path)
            pytest.fail(f"{malformed.key} accepted: {accepted}")
        message = presentable(str(caught.value), path)
        assert message.startswith(f"{path}: {malformed.key}"), malformed.key
        assert any(word in message for word in ALLOWED), message
        assert all(part in message for part in malformed.expects), message


@pytest.mark.parametrize("rule", sorted(generated()))
def test_a_mutation_reads_the_same_from_a_file(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "mutated.toml"
    for malformed in generated()[rule][::10]:
        path.write_text(toml(malformed.document))
        assert str(path) in error_of(path)


@pytest.mark.parametrize(
    "path", ["a.toml", "a", "", "folder", "folder.toml", "a.json", "a\0.toml", "b" * 5000 + ".toml"]
)
def test_what_is_no_file_is_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder.toml").mkdir()
    for load in (load_scenario, load_model, load_node):
        with pytest.raises(ScenarioError) as caught:
            load(path)
        assert presentable(str(caught.value), tmp_path)


@pytest.mark.parametrize(
    "content", [b"name = '\xff\xfe'", "schema = 1".encode("utf-16"), b"\x00\x01\x02", b"{}", b"PK\x03\x04"]
)
def test_what_is_no_text_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(content)
    assert error_of(path).startswith(f"{path}: not ")


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").symlink_to(tmp_path / "b.toml")
    (tmp_path / "b.toml").symlink_to(tmp_path / "a.toml")
    assert error_of(tmp_path / "a.toml").startswith(f"scenario={str(tmp_path / 'a.toml')[:20]!r}"[:-1])


def test_a_file_may_extend_sixteen_others_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "0.toml").write_text(GOOD.read_text())
    for i in range(1, 30):
        (tmp_path / f"{i}.toml").write_text(f'extends = "{i - 1}.toml"\n')
    last, first = load_scenario(tmp_path / "16.toml"), load_scenario(GOOD)
    assert (last.name, last.workload) == ("", first.workload)  # a variant doesn't go by its parent's name
    assert "extended more than 16 times" in error_of(tmp_path / "29.toml")


def test_a_chain_of_files_is_as_large_as_one_may_be_and_no_larger(tmp_path: Path) -> None:
    (tmp_path / "0.toml").write_text(GOOD.read_text())
    for i in (1, 2, 3):
        (tmp_path / f"{i}.toml").write_text(f'extends = "{i - 1}.toml"\n#' + "x" * 140_000)
    assert load_scenario(tmp_path / "2.toml")
    assert "2.toml: extends='1.toml': with all that it extends larger than 0.3 MB" in error_of(tmp_path / "3.toml")


@pytest.mark.parametrize("name", COMMAND_LINE)
def test_the_command_line_answers_in_one_line_and_exits_with_2(name: str) -> None:
    path = FOLDER / f"{name}.toml"
    done = subprocess.run(
        [sys.executable, "-m", "offsim", "run", str(path)], capture_output=True, text=True, cwd=FOLDER.parent.parent
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"offsim: {path.parent}")
    assert "Traceback" not in done.stderr
