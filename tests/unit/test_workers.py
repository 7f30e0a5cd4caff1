"""Worker processes: what they answer, and that they end with their parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from offsim.sweep.workers import WorkerDied, Workers
from tests.attack.struck import MARK, ROOT, marked

COMPILED = 10**12
"""What is summed for so long that nobody else of the process gets a turn."""


def test_workers_answer_in_the_order_of_the_questions():
    with Workers(2) as workers:
        assert list(workers.map(abs, range(-3, 3))) == [3, 2, 1, 0, 1, 2]


def test_what_a_worker_raises_comes_with_its_traceback():
    with Workers(1) as workers:
        with pytest.raises(ValueError, match="invalid literal") as raised:
            workers.submit(int, "x").result()
        assert workers.submit(int, "7").result() == 7
    assert "in a worker process:\nTraceback" in raised.value.__notes__[0]


class Cornered(Exception):
    """Cannot be made again from its words."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def corner() -> None:
    raise Cornered("this", "that")


def test_an_error_that_cannot_travel_is_told_in_words():
    with Workers(1) as workers, pytest.raises(RuntimeError, match="Cornered: this and that"):
        workers.submit(corner).result()


def test_a_worker_that_ends_amid_its_work_is_an_error_of_that_work():
    with Workers(1) as workers, pytest.raises(WorkerDied):
        workers.submit(os._exit, 3).result()


def test_what_a_worker_prints_is_no_answer():
    with Workers(1) as workers:
        assert workers.submit(print, "x").result() is None


def test_leaving_the_workers_ends_them_at_once_whatever_they_are_at():
    with Workers(1) as workers:
        pid = workers.submit(os.getpid).result()
        workers.submit(sum, range(COMPILED))
        left = workers.submit(abs, 1)
    assert left.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a worker ends once compiled code lets it")
def test_workers_in_the_midst_of_compiled_code_end_with_a_parent_that_is_killed():
    parent = (
        "from offsim.sweep.workers import Workers\n"
        "with Workers(2) as workers:\n"
        "    list(workers.map(print, 'ab')), print('ready', flush=True)\n"
        f"    list(workers.map(sum, [range({COMPILED})] * 2))"
    )
    environment = {**os.environ, MARK: "compiled"}
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        assert len(marked("compiled")) == 3
        process.send_signal(signal.SIGKILL)
        process.wait()
    time.sleep(0.2)
    assert marked("compiled") == []
