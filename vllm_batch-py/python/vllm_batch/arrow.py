"""Columns of Arrow, with the types that a JSON Schema says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .params import to_json

if TYPE_CHECKING:
    import pyarrow

__all__ = ["array"]

_SCALARS = {"string": "string", "integer": "int64", "number": "float64", "boolean": "bool"}
"""Arrow's names of the types of JSON."""
_NAMES: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def array(values: Sequence[Any], schema: Any, root: Any) -> pyarrow.Array:
    """Values that keep to a schema, some of them ``None``.

    The type follows from the schema where it says one, not from the values: tables of many batches are put together, and one
    of them may have no values at all. ``root`` is what references in the schema lead into.
    """
    import pyarrow

    kind = _type(schema, root)
    if kind is None and all(value is None for value in values):
        kind = pyarrow.string()
    try:
        return pyarrow.array(values, kind)
    except (pyarrow.ArrowException, OverflowError):
        # Values of several types, or numbers that are too large: as JSON, so that no answer is lost.
        return pyarrow.array([None if value is None else to_json(value) for value in values], pyarrow.string())


def _type(schema: Any, root: Any) -> pyarrow.DataType | None:
    import pyarrow

    schema = _resolved(schema, root)
    kind = _kind(schema)
    if kind == "array":
        items = _type(schema.get("items"), root)
        return None if items is None else pyarrow.list_(items)
    return pyarrow.type_for_alias(_SCALARS[kind]) if kind in _SCALARS else None


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    """What a reference leads to, and the one choice that is not null, as pydantic writes what is optional."""
    if not isinstance(schema, Mapping):
        return {}
    if isinstance(schema.get("$ref"), str):
        target = root
        for name in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(name, {}) if isinstance(target, Mapping) else {}
        # One step: a chain of references may be a circle.
        return target if isinstance(target, Mapping) else {}
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return _resolved(choices[0], root) if len(choices) == 1 else schema


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
