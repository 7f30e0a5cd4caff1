"""Files that users name: nothing hangs, nothing is followed, nothing is half written."""

import errno
import os
import stat
from pathlib import Path

import pytest

from offsim.scenario.files import check_replaceable, read_within, replacing


def write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_within(path, 5) == b"12345"
    with pytest.raises(OSError, match=r"larger than the 4e-06 MB"):
        read_within(path, 4)


def test_a_sparse_file_of_terabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="larger than the 1 MB"):
        read_within(path, 10**6)


def test_a_file_that_hides_its_size_is_bounded_too() -> None:
    path = Path("/proc/self/environ")
    if not path.exists():
        pytest.skip("no /proc here")
    assert path.stat().st_size == 0
    with pytest.raises(OSError, match="larger than"):
        read_within(path, 1)


def test_a_pipe_that_nobody_writes_to_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_within(tmp_path / "pipe", 10)
    with pytest.raises(OSError, match="not a regular file"):
        check_replaceable(tmp_path / "pipe")


def test_devices_are_never_replaced() -> None:
    before = os.lstat("/dev/null")
    with pytest.raises(OSError, match="not a regular file"):
        write(Path("/dev/null"), b"x")
    assert os.lstat("/dev/null") == before


def test_a_link_that_a_user_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nothing")
    for path in (tmp_path / "link", Path("/dev/stdout")):
        with pytest.raises(OSError, match="is a link"):
            check_replaceable(path)


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    (tmp_path / "dangling").symlink_to("nothing")
    for name in ("link", "dangling"):
        write(tmp_path / name, b"new")
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == b"new"
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert not (tmp_path / "nothing").exists()


def test_what_fails_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a") as file:
        file.write(b"half")
        raise RuntimeError
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_new_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    write(tmp_path / "ours", b"")
    (tmp_path / "any").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "any").stat().st_mode)


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    write(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


def test_folders_and_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is a directory"):
        check_replaceable(tmp_path)
    with pytest.raises(OSError, match="no directory"):
        check_replaceable(tmp_path / "missing" / "a")


def test_what_cannot_be_written_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left on device") as caught, replacing(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (caught.value.filename, list(tmp_path.iterdir())) == (str(tmp_path / "a"), [])
