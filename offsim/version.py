"""Which offsim this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def offsim_version() -> str:
    """The version of this program that is installed; "unknown" where it runs without having been."""
    try:
        return version("offsim")
    except PackageNotFoundError:
        return "unknown"
