"""Sample files survive what can happen to them."""

import json
import os
import subprocess
import sys

import msgspec
import pytest
from msgspec import structs

from calibration.samples.inventory import Inventory
from calibration.samples.sample_file import Header, ProbeSample, SampleFile
from offsim.scenario.faults import ScenarioError

MACHINE = Inventory("H200", 1, "9.0", 1e11, "580", 700.0, "a processor", 16, 1e11, "abc")


def header(fingerprint: str = "abc") -> Header:
    return Header("full", fingerprint, MACHINE, "2026-01-01", "none")


def sample(bytes_: int) -> ProbeSample:
    return ProbeSample("h2d", {"bytes": bytes_}, {"seconds": [0.1, 0.2]}, False, 0, {}, "now", "none")


@pytest.fixture
def file(tmp_path):
    made = SampleFile(tmp_path / "deep" / "samples.jsonl")
    made.begin(header())
    made.append(sample(1))
    return made


def test_what_was_written_is_read(file):
    file.append(sample(2))
    assert file.header() == header()
    assert file.samples() == [sample(1), sample(2)]
    assert file.done() == {("h2d", '{"bytes": 1}'), ("h2d", '{"bytes": 2}')}


def test_a_torn_last_line_is_dropped_and_the_next_sample_begins_a_new_one(file):
    with file.path.open("ab") as raw:
        raw.write(b'{"probe": "h2d", "con')
    assert file.samples() == [sample(1)]
    file.begin(header())
    file.append(sample(2))
    assert file.samples() == [sample(1), sample(2)]
    assert all(json.loads(line) for line in file.path.read_text().splitlines())


def test_samples_of_another_machine_are_refused(file):
    with pytest.raises(ScenarioError, match=r"holds samples of node abc .* give another --out"):
        file.begin(header("other"))


def test_a_foreign_file_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("hello\n")
    with pytest.raises(ScenarioError, match=r"x\.jsonl: not a file of samples"):
        SampleFile(path).header()


@pytest.mark.parametrize("content", [b"my only notes, without a line's end", b'{"other": 1', b"hello\nand more"])
def test_a_foreign_file_is_never_overwritten(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ScenarioError, match=r"x\.jsonl: not a file of samples"):
        SampleFile(path).begin(header())
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{", b'{"mode":"full","finger'])
def test_a_header_that_was_torn_is_written_again(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    SampleFile(path).begin(header())
    assert SampleFile(path).header() == header()


def test_fewer_gpus_and_another_mode_are_refused(file):
    with pytest.raises(ScenarioError, match=r"holds samples of 1 GPU, this is 2 GPUs; give another --out"):
        file.begin(structs.replace(header(), inventory=MACHINE.using(2, "none")))
    with pytest.raises(ScenarioError, match="holds samples of a full calibration, this is a quick calibration"):
        file.begin(structs.replace(header(), mode="quick"))
    assert file.samples() == [sample(1)]


def test_a_schema_of_the_future_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(msgspec.json.encode(structs.replace(header(), schema=99)) + b"\n")
    with pytest.raises(ScenarioError, match=r"x\.jsonl: schema 99; this version reads 1"):
        SampleFile(path).header()


def test_a_second_calibration_waits_for_the_first_ones_end(file):
    with file.locked():
        second = SampleFile(file.path).locked()
        with pytest.raises(ScenarioError, match="another calibration writes here"), second:
            pass
        file.append(sample(2))
    with SampleFile(file.path).locked():
        assert file.samples() == [sample(1), sample(2)]


def test_a_lock_ends_with_its_process(file):
    code = (
        "import os, sys; from pathlib import Path; from calibration.samples.sample_file import SampleFile\n"
        "lock = SampleFile(Path(sys.argv[1])).locked(); lock.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(file.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ScenarioError, match="another calibration writes here"), file.locked():
            pass
        holder.kill()
    with file.locked():
        assert file.samples() == [sample(1)]


def test_what_stands_in_place_of_a_lock_is_not_followed(file, tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    file.path.with_name(f".{file.path.name}.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ScenarioError, match="is a link"), file.locked():
        pass
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    locked = SampleFile(tmp_path / "file" / "samples.jsonl").locked()
    with pytest.raises(ScenarioError, match=r"file: .*give another --out"), locked:
        pass


def test_what_stands_in_place_of_samples_is_neither_waited_for_nor_followed(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("link", "is a link"), ("pipe", "not a regular file"), (".", "is a directory")):
        with pytest.raises(ScenarioError, match=why), SampleFile(tmp_path / name).locked():
            pass
    assert (tmp_path / "victim").read_bytes() == b"precious"
    with pytest.raises(ScenarioError, match="not a regular file"):
        SampleFile(tmp_path / "pipe").header()


def test_samples_that_nest_without_end_are_no_samples(file):
    file.path.write_bytes(b'{"mode":' + b"[" * 100_000 + b"\n" + b"[" * 100_000 + b"\n")
    for read in (file.header, file.samples):
        with pytest.raises(ScenarioError, match="not a file of samples"):
            read()
