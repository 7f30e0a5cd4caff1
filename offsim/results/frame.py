"""Rows as a pandas frame: pandas is imported when one is made, and by nothing before."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .metrics import Value

if TYPE_CHECKING:
    from pandas import DataFrame

DTYPES = {str: "string", int: "Int64", float: "float64", bool: "boolean"}
"""pandas' type for columns of a kind: values can be missing in each."""


def frame_of(rows: Iterable[Sequence[Value]], kinds: Mapping[str, type]) -> "DataFrame":
    """A frame with these columns by name and kind; what is None is missing there."""
    import pandas

    frame = pandas.DataFrame(list(rows), columns=list(kinds))
    return frame.astype({name: DTYPES[kind] for name, kind in kinds.items()})
