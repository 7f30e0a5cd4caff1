"""What a policy's parameters may be and what they mean, from the struct that declares them."""

import ast
import inspect
from itertools import pairwise
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from offsim.scenario.units import SUFFIXES, dimension_of


def first_line(kind: Any) -> str:
    """The first line of a class's documentation."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def allowed(annotation: Any) -> str:
    """The values that a field may have, in words.

    >>> allowed(Literal["v0", "v1"]), allowed(int | float), allowed(bool)
    ('v0, v1', 'integer or number', 'true, false')
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        others = "/".join(list(SUFFIXES.get(dimension_of(annotation) or "", ()))[1:])
        return allowed(get_args(annotation)[0]) + (f" (or {others})" if others else "")
    if origin is Literal:
        return ", ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(map(allowed, get_args(annotation)))
    names: dict[Any, str] = {bool: "true, false", int: "integer", float: "number", str: "text"}
    return names.get(annotation, str(annotation))


def field_docs(kind: Any) -> dict[str, str]:
    """The strings that stand below the fields of a class, from its source."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, text in pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            docs[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(text.value)).replace("\n", " ")
    return docs
