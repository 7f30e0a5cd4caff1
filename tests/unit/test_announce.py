"""What takes long says so, and how long; what doesn't says nothing."""

from time import sleep

import pytest
from rich.console import Console

from offsim.engine.simulate import simulate
from offsim.engine.watch import Watch
from offsim.program.systems.sglang_layerwise.parameters import SGLangLayerwise
from offsim.scenario.scenario import Simulation
from offsim.sweep import announce
from offsim.sweep.announce import announced
from offsim.sweep.progress import progress_bar
from tests.golden.tiny import tiny_scenario

ALL = Simulation(fold=False, steady_state=False, block_period=False)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred times as impatient."""
    for name in ("LOOKS", "FIRST", "WORTH_ANNOUNCING"):
        monkeypatch.setattr(announce, name, getattr(announce, name) / 100)


@pytest.mark.usefixtures("hurried")
def test_what_takes_long_says_how_long_the_rest_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("counting", lambda: 0.5):
        sleep(0.12)
    lines = capsys.readouterr().err.splitlines()
    assert lines and lines[0].startswith("offsim: counting: 50.0 % done after 0 s, up to about 0 s left")
    assert len(lines) <= 2  # each after twice the time


@pytest.mark.usefixtures("hurried")
def test_what_is_soon_done_or_asked_to_be_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("counting", lambda: 0.99):
        sleep(0.05)
    with announced("counting", lambda: 0.01, quiet=True):
        sleep(0.05)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("hurried")
def test_nothing_finished_is_said_once_that_is_long(capsys: pytest.CaptureFixture[str]) -> None:
    with announced("counting", lambda: 0.0):
        sleep(0.05)
        assert capsys.readouterr().err == ""
        sleep(0.15)
    assert "nothing finished after 0 s" in capsys.readouterr().err


@pytest.mark.usefixtures("hurried")
def test_rows_that_were_there_before_say_nothing_of_how_long_the_rest_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("rows", quiet=False, console=Console(force_terminal=False, stderr=True)) as bar:
        task = bar.add_task("grid", total=100, completed=90, before=90)
        bar.advance(task, 1)
        sleep(0.05)
    assert "rows: 10.0 % done" in capsys.readouterr().err


def test_a_watch_begins_at_nothing_and_ends_at_everything() -> None:
    watch, scenario = Watch(), tiny_scenario(SGLangLayerwise(), gpus=2, steps=3)
    assert watch.share == 0.0
    simulate(scenario, watch=watch)
    assert watch.share == 1.0
    watch.runs = 2
    assert watch.share == 0.5


def test_a_watch_grows_while_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read at every instant of a run whose every command is simulated."""
    watch, seen = Watch(), [0.0]
    from offsim.engine import agenda

    class Read(agenda.Agenda):
        @property
        def now(self) -> float:  # type: ignore[override]
            return self._now

        @now.setter
        def now(self, instant: float) -> None:
            self._now = instant
            seen.append(watch.share)

    monkeypatch.setattr("offsim.engine.simulate.Agenda", Read)
    from msgspec.structs import replace

    simulate(replace(tiny_scenario(SGLangLayerwise(), gpus=2, steps=3), simulation=ALL), watch=watch)
    assert seen == sorted(seen) and len(set(seen)) > 20
    assert 0.2 < seen[len(seen) // 2] < 0.8
