"""240 stores that are broken in as many ways, made of two real ones: whoever reads one gets its table, or one sentence.

One was left by a finished sweep, one by a killed sweep whose rows are still in the write-ahead log. A row that is
lost with the end of that log is a row that was not finished: a sweep makes it again, an export counts it as missing.
"""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from offsim.scenario.faults import ScenarioError
from offsim.sweep import execute, run
from offsim.sweep.export import export_command
from offsim.sweep.grid import Grid
from offsim.sweep.opening import opened
from offsim.sweep.row import Result, result_of
from offsim.sweep.run import sweep_command

from .test_sweep import grid_of
from .test_sweep_store import fill

BREAKS = 240
Break = Callable[[Path, random.Random], None]


def flip_bits(path: Path, chance: random.Random, count: int = 1) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(count):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def flip_header(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(100)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def overwrite(path: Path, chance: random.Random) -> None:
    content, at = bytearray(path.read_bytes()), chance.randrange(path.stat().st_size)
    content[at : at + 512] = chance.randbytes(512)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def cut_at_a_page(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * chance.randrange(path.stat().st_size // 4096)])


def swap_pages(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    pages = [content[i : i + 4096] for i in range(0, len(content), 4096)]
    one, other = chance.choice(range(len(pages))), chance.choice(range(len(pages)))
    pages[one], pages[other] = pages[other], pages[one]
    path.write_bytes(b"".join(pages))


def lengthen(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(4096))


def change_a_cell(path: Path, chance: random.Random) -> None:
    connection = sqlite3.connect(path)
    columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(rows)")][1:]
    value = chance.choice([None, "text", 1, 0.5, b"bytes", "", 10**18])
    where = (value, chance.randrange(6))
    connection.execute(f'UPDATE OR IGNORE rows SET "{chance.choice(columns)}" = ? WHERE number = ?', where)
    connection.commit()
    connection.close()


def change_the_schema(path: Path, chance: random.Random) -> None:
    connection = sqlite3.connect(path)
    column = chance.choice([name for _, name, *_ in connection.execute("PRAGMA table_info(rows)")][1:])
    statements = (
        f'ALTER TABLE rows DROP COLUMN "{column}"',
        f'ALTER TABLE rows RENAME COLUMN "{column}" TO other',
        "ALTER TABLE rows ADD COLUMN other REAL",
        f"UPDATE columns SET name = 'other' WHERE name = \"{column}\"",
        "UPDATE columns SET position = position + 1",
        f"DELETE FROM {chance.choice(['about', 'columns', 'unmeasured'])}",
        f"DROP TABLE {chance.choice(['about', 'columns', 'unmeasured'])}",
        "CREATE TABLE albums (title)",
        "CREATE VIEW more AS SELECT * FROM rows",
    )
    connection.execute(chance.choice(statements))
    connection.commit()
    connection.close()


def of_another_application(path: Path, chance: random.Random) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA application_id = {chance.choice([0, 0, 7])}")
    connection.execute(f"CREATE TABLE {chance.choice(['rows', 'about', 'albums'])} (number, title)")
    connection.execute(f"CREATE TABLE {chance.choice(['x', 'y'])} (a)")
    connection.commit()
    connection.close()


ON_FILES: list[Break] = [flip_bits, flip_bits, flip_header, overwrite, cut, cut_at_a_page, swap_pages, lengthen]
ON_TABLES: list[Break] = [change_a_cell, change_a_cell, change_the_schema, of_another_application]


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of()


@pytest.fixture(scope="module")
def results(grid: Grid) -> list[Result]:
    return [result_of(combination) for combination in grid.combinations]


@pytest.fixture
def stores(tmp_path: Path, grid: Grid, results: list[Result]) -> list[Path]:
    """The folders that a finished sweep and a killed one leave."""
    fill(tmp_path / "finished", grid, results)
    with opened(grid, tmp_path / "running", resume=False) as store:
        for number, result in enumerate(results):
            store.add(number, result)
        shutil.copytree(tmp_path / "running", tmp_path / "killed")
    return [tmp_path / "finished", tmp_path / "killed"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, grid: Grid, results: list[Result]) -> None:
    """Sweeps that know the grid and what comes of it, and answer nothing: what is left is the store."""
    known = {result.row.labels: result for result in results}
    monkeypatch.setattr(run, "load_grid", lambda _: grid)
    monkeypatch.setattr(run, "answer_text", lambda *_, **__: "")
    monkeypatch.setattr(execute, "result_of", lambda combination: known[combination.labels])


def test_a_broken_store_gives_its_table_or_one_sentence(stores, tmp_path, quick):
    chance, ends = random.Random(0), Counter[tuple[str, bool]]()
    expected = (stores[0] / "results.csv").read_bytes()
    for number in range(BREAKS):
        case, killed = tmp_path / f"case-{number}", number % 2 == 1
        shutil.copytree(stores[killed], case)
        breaking = chance.choice(ON_FILES + ON_TABLES)
        log = killed and breaking in ON_FILES and chance.random() < 0.75
        breaking(case / ("results.sqlite-wal" if log else "results.sqlite"), chance)
        name = f"{number}: {breaking.__name__} of the {'log' if log else 'database'}"

        said = answer(lambda to=case / "rows.csv": export_command(to.parent, to), name)
        ends["export", bool(said)] += 1
        if said:
            lines, whole = (case / "rows.csv").read_bytes().splitlines(), expected.splitlines()
            assert lines[0] == whole[0] and set(lines) <= set(whole), name
            assert lines == whole or (log and f"{len(lines) - 1} rows of 6 written" in said), name
        assert bool(said) == (case / "rows.csv").exists() and not list(case.glob(".*.part")), name

        resumed = answer(lambda out=case: str(sweep_command(None, out, 1, True, resume=True)), name)
        ends["resume", bool(resumed)] += 1
        assert not resumed or (resumed == "0" and (case / "results.csv").read_bytes() == expected), name
    # Both happen often, or nothing was tried.
    assert min(ends["export", True], ends["resume", True]) > 30
    assert min(ends["export", False], ends["resume", False]) > 100


def answer(asked: Callable[[], str], name: str) -> str:
    """What comes of a question; nothing if it was refused, in one sentence that names the file."""
    try:
        return asked()
    except ScenarioError as error:
        said = str(error)
    assert "results.sqlite" in said and "\n" not in said and len(said) < 500, f"{name}: {said}"
    return ""
