"""A sample of `python -m tests.attack.kills`, and what signals mean to a process that answers them."""

import signal
import subprocess
import sys

import pytest

from .kills import Range, draw
from .struck import ROOT
from .verbs import strike_verbs

LISTENING = """
import signal, sys, time
from offsim.signals import answer_signals, finished, loaded
answer_signals()
loaded()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("in order", flush=True)
    time.sleep({rest})
sys.exit(finished(130))
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory) -> Range:
    return Range(tmp_path_factory.mktemp("kills"))


def test_a_sweep_that_is_struck_at_any_moment_leaves_nobody_behind_and_goes_on_to_the_same_table(ground):
    cases = [ground.try_one(kill) for kill in draw(8, 3, ground.duration)]
    assert [case for case in cases if case.faults] == []
    assert len({case.moment for case in cases}) > 3


def test_other_verbs_that_are_struck_end_without_a_word(ground):
    assert [case for case in strike_verbs(5, 2, ground.folder) if case[2]] == []


def listening(rest: float, *, start: str = "") -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", start + LISTENING.format(rest=rest)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_code_tells_the_signal(number, code):
    with listening(0) as process:
        process.send_signal(number)
        assert (process.communicate()[0], process.returncode) == ("in order\n", code)


def test_two_signals_in_one_breath_are_one_request():
    with listening(0.3) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "in order\n"
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 143


def test_a_second_request_ends_it_at_once():
    with listening(60) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "in order\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_what_a_process_was_started_to_ignore_stays_ignored():
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with listening(0, start=ignoring) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 143
