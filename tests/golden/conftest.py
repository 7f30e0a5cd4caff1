"""`python -m pytest tests/golden --update-golden` writes the golden files anew, to be read and checked in."""

from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files first")


@pytest.fixture
def compare(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with golden/<name>.txt, exactly."""

    def compare_with_file(name: str, text: str) -> None:
        path = HERE / f"{name}.txt"
        if request.config.getoption("--update-golden", False):
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path.name} is missing: run `python -m pytest tests/golden --update-golden`"
        assert text == path.read_text(encoding="utf-8")

    return compare_with_file
