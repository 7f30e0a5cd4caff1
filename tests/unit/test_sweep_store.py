"""A sweep's folder: stopped at any moment, of other columns, with traps in it; and what its messages promise."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import pytest

from offsim.cli import dispatch
from offsim.scenario.faults import ScenarioError
from offsim.sweep import database, execute, folder, opening, store
from offsim.sweep.column import Column, columns_of
from offsim.sweep.export import export_command
from offsim.sweep.grid import Grid, load_grid
from offsim.sweep.opening import opened
from offsim.sweep.panels import ANSWERED
from offsim.sweep.row import Result, result_of
from offsim.sweep.run import sweep_command

from .test_sweep import COMPARED, GRID, grid_of, rows_of, stopping


@pytest.fixture(scope="module")
def grid() -> Grid:
    return grid_of()


@pytest.fixture(scope="module")
def results(grid: Grid) -> list[Result]:
    return [result_of(combination) for combination in grid.combinations]


@pytest.fixture
def out(tmp_path: Path, grid: Grid, results: list[Result]) -> Path:
    """The folder of a finished sweep: six rows."""
    fill(tmp_path / "out", grid, results)
    return tmp_path / "out"


def fill(out: Path, grid: Grid, results: list[Result]) -> None:
    with opened(grid, out, resume=False) as store:
        for number, result in enumerate(results):
            store.add(number, result)
        store.write_results([result.row for result in results], "the answer")


def change(out: Path, *statements: str) -> None:
    connection = sqlite3.connect(out / "results.sqlite")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def refusal(grid: Grid, out: Path, *, resume: bool = True) -> str:
    with pytest.raises(ScenarioError) as caught, opened(grid, out, resume=resume):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_come_back_as_they_went_in(grid, out, results):
    with opened(grid, out, resume=True) as store:
        assert store.everything() == results
        assert store.finished() == set(range(6))


def test_numbers_keep_every_bit_but_the_sign_of_zero_and_what_is_not_a_number_is_nothing(grid, tmp_path, results):
    odd = [0.1 + 0.2, 5e-324, -0.0, float("inf"), 1e308, float("nan")]
    kept = [one._replace(row=one.row.changed(total_s=value)) for one, value in zip(results, odd, strict=True)]
    fill(tmp_path / "out", grid, kept)
    with opened(grid, tmp_path / "out", resume=True) as store:
        found = [result.row.text("total_s") for result in store.everything()]
    assert found == ["0.30000000000000004", "5e-324", "0.0", "inf", "1e+308", ""]


class Photographer(sqlite3.Connection):
    """Copies the folder before everything that it does: what a kill at that moment would leave."""

    taken: list[Path] = []
    done = False

    def execute(self, *words: Any) -> sqlite3.Cursor:
        self.photograph()
        return super().execute(*words)

    def executemany(self, *words: Any) -> sqlite3.Cursor:
        self.photograph()
        return super().executemany(*words)

    def photograph(self) -> None:
        if self.done:
            return
        source = Path.cwd() / "out"
        self.taken.append(source.with_name(f"killed-{len(self.taken)}"))
        shutil.copytree(source, self.taken[-1])


def test_a_kill_at_any_moment_of_creation_leaves_what_is_started_anew(tmp_path, monkeypatch, grid, results):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Photographer, "taken", [])
    monkeypatch.setattr(Photographer, "done", False)
    with monkeypatch.context() as patched:
        patched.setattr(database.sqlite3, "connect", partial(sqlite3.connect, factory=Photographer))
        with opened(grid, Path("out"), resume=False) as kept:
            kept.add(0, results[0])
            Photographer.done = True
    sizes = {(out / "results.sqlite").stat().st_size for out in Photographer.taken if (out / "results.sqlite").exists()}
    assert 0 in sizes and len(Photographer.taken) > 15
    stored = []
    for out in Photographer.taken:
        for resume in (True, False):
            copy = shutil.copytree(out, out.with_name(f"{out.name}-{resume}"))
            with opened(grid, copy, resume=resume) as again:
                stored.append(again.count)
                again.add(5, results[5])
                assert again.everything() == [results[5]]
    assert set(stored) == {0}


@pytest.mark.parametrize(
    "left",
    [
        {},
        {".lock": b""},
        {".0123456789abcdef.part": b"half"},
        {"results.sqlite": b""},
        {"results.sqlite": b"", "results.sqlite-journal": b"\0" * 512, "grid.toml": b"name"},
        {"results.sqlite-wal": b"left"},
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_what_a_stopped_sweep_leaves_before_its_first_row_is_taken_over(tmp_path, grid, results, left, resume):
    out = tmp_path / "out"
    out.mkdir()
    for name, content in left.items():
        (out / name).write_bytes(content)
    with opened(grid, out, resume=resume) as store:
        store.add(0, results[0])
        assert store.everything() == results[:1]


@pytest.mark.parametrize("tables", [["about (key, value)"], ["about (key, value)", "unmeasured (number, list)"]])
def test_half_a_store_of_an_older_offsim_is_started_anew_and_said_so(tmp_path, capsys, tables):
    (tmp_path / "tiny.toml").write_text(GRID)
    (tmp_path / "out").mkdir()
    change(tmp_path / "out", *(f"CREATE TABLE {table}" for table in tables))
    assert sweep_command(str(tmp_path / "tiny.toml"), tmp_path / "out", 1, True, resume=True) == 0
    assert f"{tmp_path / 'out'}: nothing was stored there; started anew" in capsys.readouterr().err
    assert len(rows_of(tmp_path / "out")) == 6


class Full(sqlite3.Connection):
    """A connection whose disk has room for one page."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        super().execute("PRAGMA max_page_count = 1")


def test_a_disk_that_is_full_at_once_says_that_nothing_was_stored_and_leaves_nothing(tmp_path, grid, monkeypatch):
    monkeypatch.setattr(database.sqlite3, "connect", partial(sqlite3.connect, factory=Full))
    said = refusal(grid, tmp_path / "out", resume=False)
    assert said.startswith(f"{tmp_path / 'out/results.sqlite'}: cannot be written: database or disk is full;")
    assert "nothing was stored" in said and "kept" not in said
    assert not (tmp_path / "out").exists()


def test_an_interrupt_right_after_the_first_row_is_stored_loses_neither_row_nor_folder(tmp_path, grid, results):
    class Interrupted(store.Store):
        @property
        def count(self) -> int:
            return 0

        @count.setter
        def count(self, rows: int) -> None:
            if rows:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(opening, "Store", Interrupted)
        with opened(grid, tmp_path / "out", resume=False) as first:
            first.add(0, results[0])
    with opened(grid, tmp_path / "out", resume=True) as again:
        assert again.everything() == results[:1]


def test_a_file_that_cannot_be_written_at_the_end_is_named_with_the_rows_that_are_kept(out, grid, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_csv", full)
    with opened(grid, out, resume=True) as again, pytest.raises(ScenarioError) as caught:
        again.write_results([], "")
    assert f"{out / 'results.csv'}: cannot be written: No space left on device" in str(caught.value)
    assert "what was stored is kept (6 rows)" in str(caught.value)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE rows SET total_s = total_s * 2 WHERE number = 1", "row 1 is not what was written"),
        ("UPDATE rows SET status = 'invalid' WHERE number = 1", "row 1 is not what was written"),
        ("UPDATE rows SET number = 7 WHERE number = 5", "row 7 is not what was written"),
        ("UPDATE rows SET total_s = NULL WHERE number = 1", "row 1 is not what was written"),
        ("UPDATE rows SET total_s = 'fast' WHERE number = 2", "row 2 of its table rows has str 'fast' as total_s"),
        ("UPDATE rows SET gpus = x'01' WHERE number = 2", "row 2 of its table rows has bytes b'\\x01' as gpus"),
        ("UPDATE rows SET unmeasured = 99 WHERE number = 2", "row 2 is not what was written"),
        ("UPDATE unmeasured SET list = '[]'", "row 0 is not what was written"),
        ("UPDATE about SET value = '7' WHERE key = 'combinations'", "what it says of itself"),
        ("UPDATE columns SET name = 'other' WHERE name = 'total_s'", "total_s is none of the columns of rows"),
        ("UPDATE columns SET type = 'INTEGER' WHERE name = 'total_s'", "total_s of rows is declared REAL, not INTEGER"),
        ("DELETE FROM columns WHERE position = 3", "entry 3 of its table of columns"),
        ("ALTER TABLE rows DROP COLUMN steps", "steps is missing from the columns of rows"),
        ("ALTER TABLE rows ADD COLUMN more REAL", "more is none of the columns of rows"),
        ("ALTER TABLE rows RENAME COLUMN steps TO stairs", "stairs is none of the columns of rows"),
        ("ALTER TABLE about RENAME COLUMN value TO worth", "worth is none of the columns of about"),
        ("CREATE TABLE more (a)", "more is none of the tables"),
        ("CREATE TRIGGER more AFTER DELETE ON rows BEGIN DELETE FROM about; END", "more is none of the tables"),
        ("DROP TABLE unmeasured", "unmeasured is missing from the tables"),
        ("PRAGMA application_id = 5", "not the store of a sweep"),
        ("PRAGMA user_version = 3", "its format has version 3, this offsim reads version 2"),
    ],
)
def test_a_store_that_is_not_as_it_was_written_is_refused_by_all_and_left_alone(out, grid, tmp_path, statement, said):
    change(out, statement)
    before = (out / "results.sqlite").read_bytes()
    with pytest.raises(ScenarioError) as caught:
        export_command(out, tmp_path / "rows.csv")
    assert f"{out}" in refusal(grid, out, resume=False)
    for message in (str(caught.value), refusal(grid, out)):
        assert message.startswith(f"{out / 'results.sqlite'}: ") and said in message
    assert (out / "results.sqlite").read_bytes() == before
    assert not (tmp_path / "rows.csv").exists()


def test_nothing_where_a_number_must_stand_is_named_with_its_row(out, grid):
    strict, loose = '"gpus" INTEGER NOT NULL', '"gpus" INTEGER'
    change(out, "PRAGMA writable_schema = 1", f"UPDATE sqlite_master SET sql = replace(sql, '{strict}', '{loose}')")
    change(out, "UPDATE rows SET gpus = NULL WHERE number = 2")
    assert "row 2 of its table rows has nothing as gpus, not INTEGER" in refusal(grid, out)


def test_the_store_of_an_older_offsim_is_refused_in_one_sentence(out, grid, tmp_path):
    change(out, "DROP TABLE columns", "PRAGMA application_id = 0", "PRAGMA user_version = 0")
    assert "written by an older offsim" in refusal(grid, out)
    with pytest.raises(ScenarioError, match="written by an older offsim"):
        export_command(out, tmp_path / "rows.csv")


def without(*names: str) -> Callable[[tuple[Column, ...]], tuple[Column, ...]]:
    return lambda columns: tuple(column for column in columns if column.name not in names)


@pytest.mark.parametrize(
    ("change_of", "said"),
    [
        (without("node_fingerprint"), "it lacks the column node_fingerprint (TEXT), which this offsim needs"),
        (without("total_s"), "it lacks the column total_s (REAL), which this offsim needs"),
        (without("status"), "it lacks the column status (TEXT), which this offsim needs"),
        (lambda columns: (*columns, Column("more", "REAL", True)), "its column more (REAL) is none of this offsim's"),
    ],
)
def test_a_folder_of_other_columns_is_exported_but_not_resumed(out, grid, tmp_path, change_of, said):
    columns = change_of(columns_of(grid.axes))
    copy = rewritten(out, tmp_path / "other", columns)
    assert f"{copy}: cannot be resumed: {said}" in refusal(grid, copy)
    export_command(copy, tmp_path / "rows.csv")
    head, first, *_ = (tmp_path / "rows.csv").read_text().splitlines()
    assert head.split(",") == [column.name for column in columns]
    assert first.split(",")[:3] == ["1", "layerwise", "tiny"]


def test_a_folder_that_lacks_columns_goes_on_without_them_and_its_answer_is_the_same(tmp_path, capsys):
    """As an upgrade adds columns: all that may be empty and that no answer is made from."""
    (tmp_path / "tiny.toml").write_text(COMPARED)
    grid, out = load_grid(str(tmp_path / "tiny.toml")), tmp_path / "out"
    assert sweep_command(str(tmp_path / "tiny.toml"), out, 1, True) == 0
    columns = columns_of(grid.axes)
    lacking = [column.name for column in columns if column.optional and column.name not in ANSWERED]
    assert "total_d2h_GB" in lacking and "calibrated" in lacking
    copy = rewritten(out, tmp_path / "older", without(*lacking)(columns))
    change(copy, "DELETE FROM rows WHERE number = 3")
    capsys.readouterr()
    assert sweep_command(str(tmp_path / "tiny.toml"), copy, 1, True, resume=True) == 0
    assert f"{copy}: goes on without {', '.join(lacking)}, as it was begun" in capsys.readouterr().err
    expected = [{name: row[name] for name in row if name not in lacking} for row in rows_of(out)]
    assert rows_of(copy) == expected
    answers = [(folder / "answer.txt").read_text().replace(str(folder), "here") for folder in (out, copy)]
    assert answers[0] == answers[1]


def test_a_sweep_of_another_offsim_is_not_resumed(out, grid, monkeypatch):
    monkeypatch.setattr(opening, "offsim_version", lambda: "9.9")
    assert f"{out}: cannot be resumed: its offsim is " in refusal(grid, out) and "this sweep's 9.9" in refusal(
        grid, out
    )


def rewritten(out: Path, to: Path, columns: tuple[Column, ...]) -> Path:
    """The same rows in a folder of other columns, as another offsim would have written them."""
    to.mkdir()
    old, new = database.connect(out / "results.sqlite", "rw"), database.connect(to / "results.sqlite", "rwc")
    about, had = database.contents(old)
    database.create(new, about, columns)
    lists = dict(old.execute("SELECT number, unmeasured FROM rows"))
    for line in database.stored_rows(old, had):
        values = dict(zip([column.name for column in had], line.cells, strict=True))
        found = [values.get(column.name) for column in columns]
        cells = [int(value) if isinstance(value, bool) else value for value in found]
        sums = (line.number, lists[line.number], database.checksum(line.number, cells, crc32(line.unmeasured.encode())))
        new.execute(f"INSERT INTO rows VALUES ({', '.join('?' * (3 + len(cells)))})", (*sums, *cells))
    new.executemany("INSERT INTO unmeasured VALUES (?, ?)", old.execute("SELECT number, list FROM unmeasured"))
    old.close()
    new.close()
    return to


def test_rows_are_found_by_the_names_of_their_columns_in_any_order(out, grid, tmp_path, results):
    copy = rewritten(out, tmp_path / "other", columns_of(grid.axes)[::-1])
    change(copy, "DELETE FROM rows WHERE number = 3")
    with opened(grid, copy, resume=True) as again:
        again.add(3, results[3])
        assert again.finished() == set(range(6))
        again.write_results([result.row for result in results], "")
    assert rows_of(copy) == rows_of(out)
    export_command(copy, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == (copy / "results.csv").read_bytes()


@pytest.mark.parametrize("name", sorted(folder.OURS))
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "directory"])
def test_links_pipes_and_directories_in_the_place_of_a_file_are_refused(tmp_path, grid, name, kind):
    (tmp_path / "victim").write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    if kind == "pipe":
        os.mkfifo(out / name)
    elif kind == "directory":
        (out / name).mkdir()
    else:
        (out / name).symlink_to(tmp_path / ("victim" if kind == "link" else "nothing"))
    for resume in (True, False):
        assert refusal(grid, out, resume=resume).startswith(f"{out / name}: ")
    if name in folder.DATABASES:
        with pytest.raises(ScenarioError, match=name):
            export_command(out, tmp_path / "rows.csv")
    assert (tmp_path / "victim").read_text() == "precious" and list(out.iterdir()) == [out / name]
    assert not (tmp_path / "nothing").exists()


def test_a_lock_file_of_somebody_else_is_left_as_it_is(tmp_path, grid):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.lock").write_text("precious" * 100)
    assert "cannot be locked (file is not a database)" in refusal(grid, tmp_path / "out", resume=False)
    assert (tmp_path / "out/.lock").read_text() == "precious" * 100


HOLDER = """
import sys, time, tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from offsim.sweep.folder import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_refused_at_once_while_another_process_has_it_and_free_once_that_is_killed(out, grid):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"locked\n"
    start = time.monotonic()
    assert "another sweep is writing here" in refusal(grid, out)
    assert time.monotonic() - start < 1
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with opened(grid, out, resume=True) as store:
        assert store.count == 6


def test_sweep_export_and_best_need_no_locks_that_only_unix_has(tmp_path):
    (tmp_path / "tiny.toml").write_text(GRID)
    code = "import sys; sys.modules['fcntl'] = None; import offsim.sweep.best.run; from offsim.cli import main; "
    words = ["sweep", "tiny.toml", "--out", "out", "--workers", "1"]
    ran = subprocess.run([sys.executable, "-c", f"{code} main({words})"], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(rows_of(tmp_path / "out")) == 6


def test_only_names_that_the_numbering_makes_are_folders_to_resume(tmp_path, grid, results, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = f"tiny-{grid.hash}"
    for suffix in ("", "-2", "-10", "-backup", "-03", "-1", "-99x", "-²", "x", "-20-old"):
        fill(Path("offsim-results") / f"{name}{suffix}", grid, results)
    (Path("offsim-results") / f"{name}-30").write_text("a file")
    (Path("offsim-results") / f"{name}-40").mkdir()
    (Path("offsim-results") / f"{name}-40/notes.txt").write_text("somebody else's")
    with opened(grid, None, resume=True) as store:
        assert store.folder.name == f"{name}-10"


NAMES = ["x#y", "a?mode=rwc", "p%41q", "with space", "quo\"te'", "two\nlines", "back\\slash", "\udcff", "-o", "ü;:&=+"]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_a_file_may_have_any_name(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(GRID)
    with monkeypatch.context() as patched:
        patched.setattr(execute, "result_of", stopping(KeyboardInterrupt(), after=3))
        assert dispatch(["sweep", "tiny.toml", f"--out={name}", "--workers=1"]) == 130
    assert dispatch(["sweep", "tiny.toml", f"--out={name}", "--workers=1", "--resume"]) == 0
    for kind in ("csv", "parquet"):
        assert dispatch(["export", f"./{name}", f"--to=rows {name}.{kind}"]) == 0
    assert (tmp_path / f"rows {name}.csv").read_bytes() == (tmp_path / name / "results.csv").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.toml", name, f"rows {name}.csv", f"rows {name}.parquet"}
    assert capsys.readouterr().out.encode()
    assert name.isprintable() or ascii(name)[1:-1] in (tmp_path / name / "answer.txt").read_text()


@pytest.mark.parametrize(
    "out",
    ["\0", "a\0b", "n" * 300, "/".join(["n" * 200] * 30), "/".join(["n" * 200] * 3), "/dev/null", "/proc/nowhere", ""],
)
@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_that_cannot_be_is_an_error_before_the_sweep(tmp_path, monkeypatch, grid, out, resume):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("somebody's").write_text("a file")
    refusal(grid, Path(out), resume=resume)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "somebody's"}


def test_a_path_that_is_as_long_as_sqlite_opens_one_is_no_error(tmp_path, grid, results):
    room = folder.LONGEST_DATABASE_PATH - len(str(tmp_path / "results.sqlite"))
    out = tmp_path / ("n" * 200) / ("n" * (room - 202))
    fill(out, grid, results)
    assert len(str(out / "results.sqlite")) == folder.LONGEST_DATABASE_PATH
    with pytest.raises(ScenarioError, match="SQLite opens none of more than 504"):
        fill(Path(f"{out}n"), grid, results)


def test_a_read_only_folder_is_exported_by_others_than_its_owner(out):
    """As a user who may not write there; where no other can be had, the folder itself says so."""
    code = "import sys, os; from pathlib import Path; from offsim.sweep.export import export_command; "
    code += "os.getuid() or os.setuid(65534); print(export_command(Path(sys.argv[1]), Path(sys.argv[2])))"
    with TemporaryDirectory() as found:  # what pytest gives is closed to others
        folder, to = Path(found) / "out", Path(found) / "to"
        shutil.copytree(out, folder)
        to.mkdir()
        for path, mode in ((Path(found), 0o755), (to, 0o777), (folder, 0o555)):
            path.chmod(mode)
        words = [sys.executable, "-c", code, str(folder), str(to / "rows.csv")]
        ran = subprocess.run(words, capture_output=True, text=True)
        folder.chmod(0o755)
        assert ran.stdout.startswith("6 rows written"), ran.stderr
        assert (to / "rows.csv").read_bytes() == (out / "results.csv").read_bytes()
        assert not list(folder.glob("results.sqlite-*"))
