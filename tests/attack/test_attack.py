"""A sample of the attack: the same inputs each time, of every kind."""

import json
from collections.abc import Iterator
from threading import Event

import pytest

from .case import Case
from .checks import LOSSES, faults
from .execution import Answer
from .kinds import KINDS, kind_of
from .processes import process_trial
from .report import distinct
from .trial import Verdict, case_of, scratch
from .workers import batch

SEED = 1
COUNT, PROCESSES = 900, 6
"""About forty seconds of two processors."""


@pytest.fixture(scope="module")
def folder() -> Iterator[str]:
    """Where everything temporary is."""
    with scratch() as path:
        yield path


@pytest.mark.parametrize("kind", KINDS)
def test_an_input_of_this_kind_is_answered_well(kind: str, folder: str) -> None:
    verdicts: list[Verdict] = []
    batch(SEED, [number for number in range(COUNT) if kind_of(number) == kind], verdicts.append, Event())
    assert len(verdicts) > COUNT / 100
    assert not distinct(verdicts, SEED)


@pytest.mark.parametrize("number", range(PROCESSES))
def test_a_process_in_an_odd_environment_answers_well(number: int, folder: str) -> None:
    verdict, _ = process_trial(SEED, number)
    assert not distinct([verdict], SEED)


def test_a_number_stands_for_one_input() -> None:
    assert [case_of(SEED, number) for number in range(60)] == [case_of(SEED, number) for number in range(60)]
    assert case_of(SEED, 0) != case_of(SEED + 1, 0)


FINE = Answer(0, b"all is well\n", b"", 0.1, 10**8)
REFUSED = Answer(2, b"", b"offsim: a.toml: steps=0: expected an integer from 1\n", 0.1, 10**8)
BAD: dict[str, Answer] = {
    "traceback: KeyError in offsim/a.py:f": FINE._replace(
        code=1, stderr=b'Traceback (most recent call last):\n  File "/x/offsim/a.py", line 3, in f\nKeyError: 1\n'
    ),
    "exit code 1: ": FINE._replace(code=1),
    "time: takes long": FINE._replace(seconds=11.0),
    "time: hangs": FINE._replace(code=None, stopped="hangs"),
    "memory: over 1 GB": FINE._replace(peak=2 * 10**9),
    "control characters on stdout": FINE._replace(stdout=b"\x1b[31m"),
    "nan or inf on stdout": FINE._replace(stdout=b"total  nan s\n"),
    "2 lines for a message": REFUSED._replace(stderr=b"a.toml: steps\nbad\n"),
    "0 lines for a message": REFUSED._replace(stderr=b""),
    "message over 500 characters": REFUSED._replace(stderr=b"a.toml: steps" + b"x" * 500),
    "control characters in a message": REFUSED._replace(stderr=b"a.toml: steps=\x07"),
    "message without a.toml": REFUSED._replace(stderr=b"offsim: steps=0\n"),
    "message without steps": REFUSED._replace(stderr=b"offsim: a.toml is bad\n"),
}


@pytest.mark.parametrize("answer", [FINE, REFUSED, FINE._replace(seconds=20.0, early=b"up to about 9 min left")])
def test_a_good_answer_has_no_fault(answer: Answer) -> None:
    assert list(faults(Case(("run", "a.toml"), names=("a.toml", "steps")), answer)) == []


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_answer_is_seen(fault: str) -> None:
    assert fault in list(faults(Case(("run", "a.toml"), names=("a.toml", "steps")), BAD[fault]))


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ({"lower_bound_s": 3.5}, "law: lower bound above the total"),
        ({"total_s": 2.0, "total_low_s": 2.0, "total_high_s": 2.0}, "law: steps above the total"),
        ({"total_low_s": 3.5, "total_high_s": 4.0}, "law: a value outside its interval"),
        ({"total_s": None}, "law: a time is negative or none"),
    ],
)
def test_a_prediction_that_breaks_a_law_is_seen(change: dict[str, object], law: str) -> None:
    losses = {"compute_s": 3.0, **dict.fromkeys(LOSSES[1:], 0.0)}
    step = {"step_s": 3.0, "step_low_s": 3.0, "step_high_s": 3.0, **losses}
    good = {"steps": [step], "total_s": 3.0, "lower_bound_s": 2.0, "total_low_s": 3.0, "total_high_s": 3.0}
    case = Case(("run", "a.toml", "--json"))
    assert list(faults(case, FINE._replace(stdout=json.dumps(good).encode()))) == []
    assert list(faults(case, FINE._replace(stdout=json.dumps(good | change).encode()))) == [law]
