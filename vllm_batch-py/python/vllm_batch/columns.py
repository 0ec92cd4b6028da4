"""New columns of tables, of Arrow and of Polars with the types that a JSON Schema says."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import polars
    import pyarrow

__all__ = ["NewColumn", "arrow_array", "polars_series", "referred"]

_T = TypeVar("_T")
_NAMES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_DEPTH = 8
"""Lists within lists that have a type of their own. A schema may be a circle."""


class NewColumn(NamedTuple):
    """A column that a table gets. Its type follows from the schema, never from the values: tables of many batches are put
    together, and one of them may have no values at all. What has no type of its own is text of JSON."""

    values: list[Any]
    """Values that keep to the schema, some of them ``None``."""
    schema: Any
    """The JSON Schema of the values."""
    root: Any = None
    """The schema that the references in it lead into."""


def arrow_array(column: NewColumn) -> pyarrow.Array:
    """A column as Arrow has it."""
    import pyarrow

    scalars = {
        "string": pyarrow.string(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "boolean": pyarrow.bool_(),
    }
    errors = (pyarrow.ArrowException, ArithmeticError, ValueError)
    return _made(column, scalars, pyarrow.list_, pyarrow.array, errors)


def polars_series(name: str, column: NewColumn) -> polars.Series:
    """A column as Polars has it."""
    import polars

    scalars: dict[str, Any] = {
        "string": polars.String(),
        "integer": polars.Int64(),
        "number": polars.Float64(),
        "boolean": polars.Boolean(),
    }
    return _made(column, scalars, polars.List, functools.partial(polars.Series, name), (TypeError, ValueError))


def _made(
    column: NewColumn,
    scalars: Mapping[str, Any],
    list_of: Callable[[Any], Any],
    make: Callable[[list[Any], Any], _T],
    errors: tuple[type[Exception], ...],
) -> _T:
    """A column of values and their type; of texts, if there is no such type or a value does not fit it, which is one of the errors."""
    kind = _type(column.schema, column.root, scalars, list_of)
    if kind is not None:
        with contextlib.suppress(*errors):
            return make(column.values, kind)
    # As JSON, so that no answer is lost.
    texts = [None if value is None else json.dumps(value) for value in column.values]
    return make(texts, scalars["string"])


def _type(schema: Any, root: Any, scalars: Mapping[str, Any], list_of: Callable[[Any], Any], depth: int = _DEPTH) -> Any:
    """The type of a column of scalars or of lists of them, else ``None``."""
    schema = _resolved(schema, root)
    kind = _kind(schema)
    if kind == "array" and depth > 0:
        items = _type(schema.get("items"), root, scalars, list_of, depth - 1)
        return None if items is None else list_of(items)
    return scalars.get(kind or "")


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    """What a reference leads to, or the one choice that is not null, as pydantic writes what is optional."""
    schema = referred(schema, root)
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return referred(choices[0], root) if len(choices) == 1 else schema


def referred(schema: Any, root: Any) -> Mapping[str, Any]:
    """A schema, or what it leads to if it is a reference. One step: a chain of references may be a circle."""
    if not isinstance(schema, Mapping):
        return {}
    if not isinstance(schema.get("$ref"), str):
        return schema
    target = root
    for name in schema["$ref"].split("/")[1:]:
        target = target.get(name) if isinstance(target, Mapping) else None
    return target if isinstance(target, Mapping) else {}


def _kind(schema: Mapping[str, Any]) -> str | None:
    """The one type of JSON that a schema allows besides null."""
    kinds = schema.get("type")
    if kinds is None:
        values = schema["enum"] if "enum" in schema else [schema.get("const")]
        kinds = [_NAMES.get(type(value), "null") for value in values]
    found = {kinds} if isinstance(kinds, str) else set(kinds) - {"null"}
    if found == {"integer", "number"}:
        return "number"
    return found.pop() if len(found) == 1 else None
