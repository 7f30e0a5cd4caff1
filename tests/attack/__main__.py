"""python -m tests.attack --count 10000 --seed 1 [--processes 300] [--only KIND] [--case NUMBER [--keep FOLDER]].

Ends with 1 if any case has a fault.
"""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from .kinds import KINDS, kind_of
from .processes import process_case, process_trial
from .report import distinct, table
from .trial import Verdict, case_of, scratch, trial
from .workers import AT_ONCE, try_all

EVERY = 30.0
"""Seconds between lines of progress."""


class Progress:
    """Collects verdicts, and says how far along they are."""

    def __init__(self, total: int) -> None:
        self.total, self.verdicts, self.told = total, list[Verdict](), time.monotonic()
        self._lock = Lock()

    def tell(self, verdict: Verdict) -> None:
        """One more case is done."""
        with self._lock:
            self.verdicts.append(verdict)
            if time.monotonic() - self.told > EVERY:
                self.told = time.monotonic()
                faulty = sum(bool(v.faults) for v in self.verdicts)
                print(f"{len(self.verdicts):,} of {self.total:,} tried, {faulty:,} with faults", file=sys.stderr)


def main() -> int:
    """Run what was asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attack offsim with bad inputs.")
    parser.add_argument("--count", type=int, default=1000, help="inputs in process")
    parser.add_argument("--processes", type=int, default=0, help="inputs as processes of their own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", choices=sorted(KINDS), help="one kind")
    parser.add_argument("--case", help="one input alone: its number, or p and the number of a process")
    parser.add_argument("--keep", type=Path, help="with --case: a new folder for its files, which stay")
    asked = parser.parse_args()
    with scratch():
        return show(asked.seed, asked.case, asked.keep) if asked.case else attack(asked)


def attack(asked: argparse.Namespace) -> int:
    """Try many inputs and print what came of them."""
    numbers = [n for n in range(asked.first, asked.first + asked.count) if asked.only in (None, kind_of(n))]
    progress = Progress(len(numbers) + asked.processes)
    try_all(asked.seed, numbers, progress.tell)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for verdict, _ in threads.map(lambda number: process_trial(asked.seed, number), range(asked.processes)):
            progress.tell(verdict)
    print(table(progress.verdicts))
    print(distinct(progress.verdicts, asked.seed))
    return int(any(verdict.faults for verdict in progress.verdicts))


def show(seed: int, number: str, keep: Path | None) -> int:
    """Try one case here and print everything about it."""
    as_process = number.startswith("p")
    at = int(number.removeprefix("p"))
    kind, case = process_case(seed, at) if as_process else case_of(seed, at)
    verdict, answer = process_trial(seed, at, keep) if as_process else trial(seed, at, keep)
    print(f"kind {kind}, entry {case.entry}, arguments {ascii(case.arguments)[:2000]}")
    print(f"environment {dict(case.environment)}, stdout {case.stdout}, message must contain {case.names}")
    for name, content in case.contents:
        print(f"file {name!a}: {ascii(content)[:300]}")
    print(f"--- stdout\n{ascii(answer.stdout.decode(errors='replace'))[:1500]}")
    print(f"--- stderr\n{answer.stderr.decode(errors='replace')[-6000:]}")
    print(f"--- exit code {answer.code}, {answer.seconds:.2f} s, {answer.peak / 1e6:.0f} MB")
    print("\n".join(verdict.faults) or "no fault")
    return int(bool(verdict.faults))


if __name__ == "__main__":
    sys.exit(main())
