"""Files that users name: read within a bound, written whole or not at all.

Whatever stands at a path may be a mistake or a trap: a pipe that nobody writes to, a device, a file of many gigabytes,
a link to another file. All that offsim reads and writes goes through here, so each of them is answered in one way.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import BinaryIO

NOT_REGULAR = "not a regular file"


def read_within(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file of at most `most_bytes`; raises OSError for all else, without reading it.

    Opened without blocking: a pipe would otherwise hold the process until somebody writes to it.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not S_ISREG(found.st_mode):
            raise _fault(errno.EINVAL, NOT_REGULAR, path)
        # One byte more is asked for, since a file may grow, and some in /proc say that they have none.
        content = b"" if found.st_size > most_bytes else file.read(most_bytes + 1)
    if found.st_size > most_bytes or len(content) > most_bytes:
        raise _fault(errno.EFBIG, f"larger than the {most_bytes / 1e6:g} MB that are read of such a file", path)
    return content


def check_replaceable(path: Path) -> None:
    """Raise OSError if a file of this name cannot be written: asked before long work, not after it."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise _fault(errno.ENOENT, f"no directory {folder}", path)
    if path.is_symlink():
        raise _fault(errno.EINVAL, "is a link; name the file that it points to, or another", path)
    _check_no_device(path)
    if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise _fault(errno.EACCES, "permission denied", path)


def _check_no_device(path: Path) -> None:
    """Raise OSError if anything but a file or a link has this name: root could replace /dev/null."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (S_ISREG(mode) or S_ISLNK(mode)):
        raise _fault(errno.EINVAL, "is a directory" if S_ISDIR(mode) else NOT_REGULAR, path)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing, that takes the name `path` once it is complete and on the disk.

    What had that name stays until then, and stays if anything fails. A link is replaced, never followed. The new
    file is created under a name that nobody else has, so that a link set there beforehand isn't followed either.
    """
    _check_no_device(path)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def _fault(number: int, reason: str, path: Path) -> OSError:
    return OSError(number, reason, str(path))
