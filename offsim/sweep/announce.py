"""Saying that something takes long, and how long: within a second where that can be told, then now and then.

Whoever waits for an answer without a progress bar (a pipe, a log, a single long simulation) sees lines on standard
error. What takes a few seconds says nothing.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from time import monotonic

LOOKS = 0.25
"""Seconds between two looks at how far it has come."""
FIRST = 0.75
"""Seconds before the first: less is too early to tell."""
WORTH_ANNOUNCING = 8.0
"""Seconds in all from which on it is said."""
RARELY = 2.0
"""Each line comes after so many times as long as the one before it."""


@contextmanager
def announced(what: str, share: Callable[[], float], *, quiet: bool = False) -> Iterator[None]:
    """Say while the body runs how long it will take, if that is long; `share` is how much is done, from 0 to 1."""
    over = Event()
    thread = Thread(target=_watch, args=(what, share, over), daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def _watch(what: str, share: Callable[[], float], over: Event) -> None:
    start, due = monotonic(), FIRST
    while not over.wait(LOOKS):
        spent = monotonic() - start
        if spent < due:
            continue
        done = share()
        if spent > WORTH_ANNOUNCING or (done and spent / done > WORTH_ANNOUNCING):
            say(f"{what}: {progress(done, spent)}")
            due = max(RARELY * spent, WORTH_ANNOUNCING)


def progress(done: float, spent: float) -> str:
    """How far something is, and how long the rest takes at this pace: shortcuts and pruning can only help.

    >>> progress(0.25, 30.0), progress(0.0, 9.0)
    ('25.0 % done after 30 s, up to about 90 s left', 'nothing finished after 9 s')
    """
    if not done:
        return f"nothing finished after {spent:.0f} s"
    return f"{100 * done:.1f} % done after {spent:.0f} s, up to about {duration(spent * (1 - done) / done)} left"


def duration(seconds: float) -> str:
    """A duration as people say it.

    >>> duration(95.4), duration(600), duration(90_000)
    ('95 s', '10 min', '25 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def say(text: str) -> None:
    """A line on standard error, if there is one that takes it: it may be closed, before the start or since."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None:
            print(f"offsim: {text}", file=sys.stderr, flush=True)
