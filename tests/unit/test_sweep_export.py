"""A sweep's rows as files: types, missing values, names; and what is refused."""

import csv
import sqlite3
import sys
from io import BytesIO, StringIO
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet
import pytest

from offsim.scenario.faults import ScenarioError
from offsim.sweep import export
from offsim.sweep.csv_file import write_csv
from offsim.sweep.export import export_command
from offsim.sweep.grid import load_grid
from offsim.sweep.opening import opened
from offsim.sweep.run import sweep_command

from .test_sweep import GRID


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six rows: four predictions, two refused."""
    (tmp_path / "tiny.toml").write_text(GRID)
    assert sweep_command(str(tmp_path / "tiny.toml"), tmp_path / "out", 1, True) == 0
    return tmp_path / "out"


def test_parquet_gives_back_every_value_with_its_type_and_null_where_there_is_none(folder, tmp_path):
    assert export_command(folder, tmp_path / "rows.parquet") == f"6 rows written to {tmp_path / 'rows.parquet'}\n"
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    kinds = {field.name: str(field.type) for field in table.schema}
    assert kinds["axis_gpus"] == kinds["status"] == "string" and kinds["gpus"] == kinds["tokens"] == "int64"
    assert kinds["total_s"] == kinds["peak_allocated_GiB"] == "double" and kinds["calibrated"] == "bool"
    with opened(load_grid(str(tmp_path / "tiny.toml")), folder, resume=True) as store:
        expected = [
            dict(zip(table.column_names, [*r.row.labels, *r.row.cells], strict=True)) for r in store.everything()
        ]
    assert table.to_pylist() == expected
    assert expected[0]["calibrated"] is False and expected[0]["total_s"] > 0
    assert expected[4]["total_s"] is None and expected[4]["calibrated"] is None and expected[4]["tokens"] is None


def test_parquet_says_which_sweep_it_is(folder, tmp_path):
    export_command(folder, tmp_path / "rows.parquet")
    metadata = pyarrow.parquet.read_schema(tmp_path / "rows.parquet").metadata
    assert metadata[b"offsim.grid"] == b"tiny"
    assert metadata[b"offsim.grid_hash"].decode() == load_grid(str(tmp_path / "tiny.toml")).hash


def test_units_stand_in_the_names_of_all_numbers_that_have_one(folder, tmp_path):
    export_command(folder, tmp_path / "rows.parquet")
    schema = pyarrow.parquet.read_schema(tmp_path / "rows.parquet")
    assert [field.name for field in schema if str(field.type) == "double" and not unit(field.name)] == []


def unit(name: str) -> bool:
    return name.endswith("_s") or any(part in name.split("_") for part in ("GiB", "GB"))


def test_csv_is_what_the_sweep_wrote_and_reads_as_the_parquet_does(folder, tmp_path):
    export_command(folder, tmp_path / "rows.csv")
    export_command(folder, tmp_path / "rows.parquet")
    assert (tmp_path / "rows.csv").read_bytes() == (folder / "results.csv").read_bytes()
    text, exact = pd.read_csv(tmp_path / "rows.csv"), pd.read_parquet(tmp_path / "rows.parquet")
    pd.testing.assert_series_equal(text["total_s"], exact["total_s"], check_exact=True)


def test_rows_of_a_sweep_that_is_still_running_are_exported(tmp_path):
    (tmp_path / "tiny.toml").write_text(GRID)
    with opened(load_grid(str(tmp_path / "tiny.toml")), tmp_path / "out", resume=False):
        assert export_command(tmp_path / "out", tmp_path / "rows.parquet").startswith("0 rows of 6 written")
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("stored", "written"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("-0.5e-3", "-0.5e-3"),
        ("+7", "+7"),
        ("-", "-"),
        ("a=b", "a=b"),
        ("\t=1", "\\t=1"),
        ("\r=1", "\\r=1"),
        ("red\x1b[31m\u202eno\x07", "red\\x1b[31m\\u202eno\\x07"),
        ("größer, 10 GB", "größer, 10 GB"),
        ("", ""),
        (-1.5, "-1.5"),
        (-3, "-3"),
        (None, ""),
        (False, "false"),
    ],
)
def test_text_is_never_a_formula_nor_a_command_to_a_terminal_in_csv(stored, written):
    file = BytesIO()
    assert write_csv(file, ["=name"], [[stored, 1]]) == 1
    assert list(csv.reader(StringIO(file.getvalue().decode()))) == [["'=name"], [written, "1"]]


def test_text_stays_as_it_is_in_the_database_and_in_parquet(tmp_path):
    (tmp_path / "tiny.toml").write_text(GRID.replace('label = "layerwise"', 'label = "=1+1"'))
    assert sweep_command(str(tmp_path / "tiny.toml"), tmp_path / "out", 1, True) == 0
    export_command(tmp_path / "out", tmp_path / "rows.parquet")
    assert set(pd.read_parquet(tmp_path / "rows.parquet")["axis_policy"]) == {"=1+1", "full-model"}
    connection = sqlite3.connect(tmp_path / "out/results.sqlite")
    assert connection.execute("SELECT axis_policy FROM rows").fetchone() == ("=1+1",)
    connection.close()
    assert set(pd.read_csv(tmp_path / "out/results.csv")["axis_policy"]) == {"'=1+1", "full-model"}


def refusal(folder: Path, to: Path) -> str:
    before = set(to.parent.iterdir())
    with pytest.raises(ScenarioError) as caught:
        export_command(folder, to)
    assert set(to.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_exported_is_one_sentence(folder, tmp_path):
    assert "rows.xlsx: expected a file that ends in .csv or .parquet" in refusal(folder, tmp_path / "rows.xlsx")
    assert "exists; choose another name" in refusal(folder, folder / "results.csv")
    with pytest.raises(ScenarioError, match=r"rows.csv: no directory .*/nowhere$"):
        export_command(folder, tmp_path / "nowhere/rows.csv")
    assert "has no results.sqlite; name the folder" in refusal(tmp_path, tmp_path / "rows.csv")
    (tmp_path / "link.csv").symlink_to("nowhere")
    assert "link.csv: exists; choose another name" in refusal(folder, tmp_path / "link.csv")
    assert "a NUL character" in refusal(folder, tmp_path / "a\0b.csv")
    assert "a NUL character" in refusal(Path("a\0b"), tmp_path / "rows.csv")
    (tmp_path / "other").mkdir()
    sqlite3.connect(tmp_path / "other/results.sqlite").close()
    (tmp_path / "other/results.sqlite").write_text("no database")
    assert "not the store of a sweep" in refusal(tmp_path / "other", tmp_path / "rows.csv")


def test_a_full_disk_leaves_no_half_of_a_file(folder, tmp_path, monkeypatch):
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_csv", full)
    assert f"--to {tmp_path / 'rows.csv'}: cannot be written: No space left" in refusal(folder, tmp_path / "rows.csv")


def test_without_the_extra_the_sentence_names_it(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'offsim[parquet]'" in refusal(folder, tmp_path / "rows.parquet")
