"""Documents that people write: what is too large or too deep is refused before it takes time or memory."""

import json
import os
import tomllib
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offsim.scenario import catalogue
from offsim.scenario.documents import DEEPEST, MOST_BYTES, read_json, read_toml
from offsim.scenario.faults import ScenarioError

SECONDS = 10.0
"""Far above what any of these takes on an idle machine, far below what it took without a bound."""
PARTS = ["a", '"a"', "'a'", '"a.b"', '"\\""', "'#'", '"#"', "a-b", "1"]


def refusal(path: Path, content: str | bytes) -> str:
    """Why a document is refused, without the name of its file."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    read = read_json if path.suffix == ".json" else read_toml
    begin = perf_counter()
    with pytest.raises(ScenarioError) as caught:
        read(path)
    assert perf_counter() - begin < SECONDS
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 480
    return message.removeprefix(f"{path}: ")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "a.toml"


def test_the_largest_and_the_deepest_file_of_the_catalogue_are_far_below_the_bounds() -> None:
    files = [path for kind in catalogue.KINDS for path in (catalogue.ROOT / kind).glob("*.toml")]
    assert files
    assert max(path.stat().st_size for path in files) < MOST_BYTES / 10


def test_a_file_of_many_bytes_is_refused_and_one_of_fewer_is_read(toml: Path) -> None:
    assert refusal(toml, "#" * (MOST_BYTES + 1)) == "larger than the 0.3 MB that are read of such a file"
    toml.write_text("#" * MOST_BYTES)
    assert read_toml(toml) == {}


@pytest.mark.parametrize("dot", [".", " . ", "\t.\t"])
@pytest.mark.parametrize("form", ["{} = 1", "[{}]", "[[{}]]", "x = {{ {} = 1 }}"])
@pytest.mark.parametrize("part", ["a", '"a"', "'a'"])
def test_a_key_of_many_parts_is_refused_however_it_is_written(part: str, form: str, dot: str, toml: Path) -> None:
    many = 40_000 // len(part + dot)
    assert refusal(toml, form.format(dot.join([part] * many))).startswith("a key of more than 12 parts")


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=2 * DEEPEST))
def test_exactly_the_keys_of_too_many_parts_are_refused(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("keys") / "a.toml"
    path.write_text(f"# {'c.' * 40}\n" + ".".join(parts) + f" = {json.dumps('word. ' * 40)} # {'e.' * 40}\n")
    if len(parts) <= DEEPEST:
        assert read_toml(path) == tomllib.loads(path.read_text())
    else:
        assert refusal(path, path.read_bytes()).startswith("a key of more than 12 parts")


@pytest.mark.parametrize("quotes", ['"', "'", '"""', "'''"])
def test_dots_in_text_and_in_comments_separate_no_keys(quotes: str, toml: Path) -> None:
    toml.write_text(f"a = {quotes}{'x.' * 50}{quotes} # {'y.' * 50}\nb = [{'1.5, ' * 50}]\n")
    assert read_toml(toml) == {"a": "x." * 50, "b": [1.5] * 50}


def test_a_text_of_several_lines_may_hold_quotes_and_escapes(toml: Path) -> None:
    toml.write_text('a = """one "two" \\" ""three"""""\nb.c = 1\n')
    assert read_toml(toml) == {"a": 'one "two" " ""three""', "b": {"c": 1}}


@pytest.mark.parametrize("nested", [lambda n: "[" * n + "]" * n, lambda n: "{a=" * n + "1" + "}" * n])
def test_nesting_is_bounded(nested: Any, toml: Path) -> None:
    toml.write_text(f"a = {nested(DEEPEST - 1)}")
    assert read_toml(toml)
    for depth in (DEEPEST, 100, 20_000):
        assert refusal(toml, f"a = {nested(depth)}").startswith("nested too deeply")


def test_headers_keys_and_values_nest_together(toml: Path) -> None:
    assert refusal(toml, "[a.b.c.d.e]\nf.g.h.i.j = [{k.l = 1}]").startswith("nested too deeply")


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 50_000, "[" * 20 + "]" * 20])
def test_deep_json_is_refused(nested: str, tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.json", nested).startswith("nested too deeply")


def test_a_number_of_thousands_of_digits_is_named_by_its_line(toml: Path) -> None:
    assert refusal(toml, f"a = 1\n\nb = {'1' * 5000}\n") == "not TOML: a number of thousands of digits in line 3"


@pytest.mark.parametrize("digits", ["1" * 400, "-" + "1" * 5000, "1" * 100_000])
def test_a_json_integer_beyond_all_floats_is_infinite(digits: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(f'{{"a": {digits}, "b": {"1" * 200}}}')
    assert read_json(path) == {"a": float(digits), "b": int("1" * 200)}


@pytest.mark.parametrize("content", [b"a = '\xff'", "a = 1".encode("utf-16"), "a = 'é'".encode("latin-1")])
def test_what_is_no_utf_8_is_refused(content: bytes, toml: Path) -> None:
    assert refusal(toml, content) == "not UTF-8 text"


@pytest.mark.parametrize("content", ["a = 1\rb = 2", "a = 'x\0y'", "a = '\x1b[31m'", "\0", 'a = "\\ud800"'])
def test_what_toml_forbids_is_refused(content: str, toml: Path) -> None:
    assert refusal(toml, content).startswith("not TOML: ")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    for name, read in (("a.toml", read_toml), ("a.json", read_json)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ScenarioError, match=f"{name}: not a regular file"):
            read(tmp_path / name)


def test_a_link_to_a_file_is_read(tmp_path: Path, toml: Path) -> None:
    toml.write_text("a = 1")
    (tmp_path / "link.toml").symlink_to(toml)
    assert read_toml(tmp_path / "link.toml") == {"a": 1}


@pytest.mark.parametrize("name", ["a\0.toml", "\udcff.toml", "n" * 5000])
def test_names_that_cannot_be_opened_are_refused_printably(name: str, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_toml(tmp_path / name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 480
