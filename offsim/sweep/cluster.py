"""A sweep on a cluster: dask.distributed's scheduler hands the combinations to its workers.

Rows come back to this process and are stored here, so the workers need no disk in common with it, but the same offsim.
A worker that dies loses nothing: the scheduler gives what it had to others. Left out: starting a cluster.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from offsim.scenario.faults import ScenarioError
from offsim.version import offsim_version

from .execute import AT_ONCE, Engine, EngineLost, Found
from .grid import Combination, Grid
from .row import Result, failed, result_of

if TYPE_CHECKING:
    from distributed import Client, Future

SCHEME = "dask://"
CONNECTING = 10.0
"""Seconds to wait for the scheduler, and then for its first worker."""
FETCHING = 5.0
"""Seconds within which a row comes from its worker, if that still lives."""
CONNECT_PATIENCE = 60.0
"""Seconds to wait for another worker once all are gone."""


@contextmanager
def cluster(address: str) -> Iterator[Engine]:
    """The engine behind dask://HOST:PORT, with workers that can do the work; raises ScenarioError."""
    scheduler = address.removeprefix(SCHEME)
    if not re.fullmatch(r"[^\s/]+:[0-9]{1,5}", scheduler):
        raise ScenarioError(f"--engine {address}: expected local or dask://HOST:PORT, as in dask://10.0.0.1:8786")
    client = _connect(scheduler, address)
    try:
        _check_workers(client, address)
        yield lambda grid, numbers: _on(client, grid, numbers)
    finally:
        with suppress(OSError):
            client.close(timeout=CONNECTING)


def _connect(scheduler: str, address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError:
        raise ScenarioError(
            f"--engine {address}: dask.distributed is not installed; pip install 'offsim[cluster]'"
        ) from None
    # What goes wrong is said here, in one sentence, not by its loggers in many.
    for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
        logging.getLogger(name).handlers[:] = [logging.NullHandler()]
    try:
        return Client(f"tcp://{scheduler}", timeout=CONNECTING)
    except (OSError, OverflowError):
        raise ScenarioError(
            f"--engine {address}: no scheduler answers there within {CONNECTING:g} s; "
            "`dask scheduler` starts one and prints its address"
        ) from None


def _check_workers(client: "Client", address: str) -> None:
    """Somebody is there to do the work, and all have this version of offsim."""
    try:
        client.wait_for_workers(1, timeout=CONNECTING)
    except TimeoutError:
        raise ScenarioError(
            f"--engine {address}: the scheduler has no workers; `dask worker {address.removeprefix(SCHEME)} "
            "--nthreads 1` starts one"
        ) from None
    for worker, found in client.run(offsim_version, on_error="return").items():
        if found != offsim_version():
            what = f"cannot run offsim ({_line(found)})" if isinstance(found, Exception) else f"has offsim {found}"
            raise ScenarioError(f"--engine {address}: worker {worker} {what}; install {offsim_version()} there")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _on(client: "Client", grid: Grid, numbers: Sequence[int]) -> Found:
    """Results as they come; leaving the loop early takes back what was not begun."""
    left, futures = iter(numbers), dict[Any, int]()
    try:
        while True:
            # Workers come and go; as on one machine, no more wait in line than keeps all of them busy.
            most = AT_ONCE * max(1, sum(client.nthreads().values()))
            for number in islice(left, max(0, most - len(futures))):
                futures[client.submit(result_of, grid.combinations[number], pure=False)] = number
            if not futures:
                return
            for future in _finished(client, list(futures)):
                number = futures[future]
                found = _result(future, grid.combinations[number])
                if found is not None:
                    del futures[future]
                    yield number, found
    except (OSError, CancelledError):  # what a client says once its connection is lost
        raise EngineLost("the scheduler is gone, or took the work back") from None
    finally:
        with suppress(OSError, CancelledError):
            client.cancel(list(futures), force=True)


def _finished(client: "Client", futures: list[Any]) -> set[Any]:
    """Those that are finished, at least one; raises EngineLost once nobody is there to finish any."""
    from distributed import wait

    while True:
        try:
            found: set[Any] = wait(futures, timeout=CONNECT_PATIENCE, return_when="FIRST_COMPLETED").done
            return found
        except TimeoutError:
            # Nothing finished for long: that may be, as long as somebody is at it.
            if not client.nthreads():
                raise EngineLost(f"the cluster has had no workers for {CONNECT_PATIENCE:g} s") from None


def _result(future: "Future", combination: Combination) -> Result | None:
    """A combination's row, or the row of its failure: its own, or that every worker died which tried it.

    None if the row died with its worker before it came here: then it is not finished after all.
    """
    if not future.done():
        return None
    try:
        found: Result = future.result(timeout=FETCHING)
        return found
    except CancelledError:
        raise
    except TimeoutError:
        return None
    except Exception as error:
        return failed(combination, error)
