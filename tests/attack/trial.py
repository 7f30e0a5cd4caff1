"""A case by its number: made, tried, judged."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple

from .case import Case
from .checks import faults
from .execution import Answer, attempt, harm, lay_out
from .kinds import KINDS, kind_of
from .kinds.stores import finished
from .written import faults_of_files


class Verdict(NamedTuple):
    """What came of a case."""

    number: int
    kind: str
    code: int | None
    seconds: float
    peak: int
    faults: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    stderr: str = ""
    """Its end."""


def case_of(seed: int, number: int) -> tuple[str, Case]:
    """The kind and the case of a number."""
    kind = kind_of(number)
    return kind, KINDS[kind](Random(f"{seed}/{number}"))


@contextmanager
def scratch() -> Iterator[str]:
    """A folder for everything temporary, with what cases begin from; it goes with all that is in it."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="attack-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            finished()
            yield folder
        finally:
            tempfile.tempdir = before


def all_faults(case: Case, answer: Answer, root: Path) -> Iterator[str]:
    """What is wrong with what a case said, did and wrote."""
    yield from faults(case, answer)
    yield from harm(case, root)
    if answer.code == 0:
        yield from faults_of_files(case, root)


def trial(seed: int, number: int, keep: Path | None = None) -> tuple[Verdict, Answer]:
    """Try a case in a new folder, which stays if it is named."""
    kind, case = case_of(seed, number)
    root = (keep or Path(tempfile.mkdtemp(prefix="attack-"))) / "case"
    try:
        lay_out(case, root)
        answer = attempt(case, root)
        found = tuple(all_faults(case, answer, root))
    finally:
        if keep is None:
            shutil.rmtree(root.parent, ignore_errors=True)
    end = answer.stderr.decode("utf-8", "replace")[-1500:]
    return Verdict(number, kind, answer.code, answer.seconds, answer.peak, found, case.arguments, end), answer
