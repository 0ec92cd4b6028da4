"""Pydantic models and dataclasses as schemas: each field is a question, and answers are objects again.

Pydantic is imported only for models that are its own, and for parts that only it can describe.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from ..params import closed

__all__ = ["document_of"]

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")
"""What pydantic and annotated_types call bounds."""
_MAX_STEPS = 100
"""A scale with more steps is a number."""

@dataclasses.dataclass(slots=True)
class _Field:
    """A field of a model, however it was written down."""

    model: str
    name: str
    key: str
    """What the model's constructor calls it."""
    annotation: Any
    is_required: bool
    """Whether the constructor must have a value, which may be ``None``."""
    is_optional: bool = False
    """Whether ``None`` is a value."""
    title: str | None = None
    description: str | None = None
    bounds: dict[str, Any] = dataclasses.field(default_factory=dict)

    def take(self, bound: str) -> Any:
        """A bound that the question has."""
        return self.bounds.pop(bound, None)

    def refused(self, why: str) -> TypeError:
        return TypeError(f"{self.model}.{self.name}: {why}")


class _Asked(NamedTuple):
    """The keys of a question, and how its answer becomes the field's value."""

    keys: dict[str, Any]
    read: Callable[[Any], Any] = lambda answer: answer


def document_of(
    model: type,
    fields: Sequence[str | Mapping[str, Any]],
    questions: Mapping[str, Mapping[str, Any]],
    document: Mapping[str, Any],
) -> tuple[dict[str, Any], Maker]:
    """The document of a schema, and what makes objects of answers."""
    asked = {entry.name: (entry, _asked(entry)) for entry in _fields(model)}
    unknown = sorted(questions.keys() - asked.keys())
    if unknown:
        raise TypeError(f"{model.__name__} has no fields of these names: {', '.join(unknown)}")
    listed = [{**_question(entry, one), **questions.get(name, {})} for name, (entry, one) in asked.items()]
    made = {
        "format": 1,
        "id": re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", model.__name__).lower(),
        "version": "1.0.0",
        "fields": [{"id": one, "type": "text"} if isinstance(one, str) else one for one in fields],
        "questions": listed,
        **_description(model),
        **document,
    }
    return made, Maker.of(model)


def _question(entry: _Field, asked: _Asked) -> dict[str, Any]:
    texts = {"title": entry.title, "help": entry.description}
    required = entry.is_required and not entry.is_optional
    return {"id": entry.name, **{key: text for key, text in texts.items() if text}, "required": required, **asked.keys}


def _description(model: type) -> dict[str, str]:
    text = (vars(model).get("__doc__") or "").strip()
    # A dataclass without a docstring has its signature there.
    return {"description": text} if text and not text.startswith(f"{model.__name__}(") else {}


@dataclasses.dataclass(slots=True)
class Maker:
    """Makes objects of a class of answers."""

    model: Any
    fields: list[tuple[_Field, Callable[[Any], Any]]]

    @classmethod
    def of(cls, model: Any) -> Maker:
        """What makes objects of this class."""
        return cls(model, [(entry, _asked(entry).read) for entry in _fields(model)])

    def __call__(self, answers: Mapping[str, Any]) -> Any:
        construct = getattr(self.model, "model_validate", None) or (lambda values: self.model(**values))
        values = {entry.key: read(answers[entry.name]) for entry, read in self.fields if answers.get(entry.name) is not None}
        absent = {entry.key: None for entry, _ in self.fields if entry.is_required and entry.is_optional}
        return construct({**absent, **values})

    def __reduce__(self) -> tuple[Any, ...]:
        # The fields hold functions that cannot be sent; they follow from the class.
        return Maker.of, (self.model,)


def _fields(model: Any) -> Iterator[_Field]:
    if hasattr(model, "model_fields"):
        return _pydantic_fields(model)
    if dataclasses.is_dataclass(model) and isinstance(model, type):
        return _dataclass_fields(model)
    raise TypeError(f"expected a pydantic model or a dataclass, found {model!r}")


def _pydantic_fields(model: Any) -> Iterator[_Field]:
    for name, info in model.model_fields.items():
        entry = _Field(model.__name__, name, info.alias or name, info.annotation, info.is_required(), title=info.title)
        entry.description = info.description
        entry.bounds = _bounds(info.metadata)
        yield _plain(entry)


def _dataclass_fields(model: type) -> Iterator[_Field]:
    try:
        hints = get_type_hints(model, include_extras=True)
    except NameError as error:
        raise TypeError(f"{model.__name__}: its annotations cannot be read: {error}") from error
    for one in dataclasses.fields(model):
        if not one.init:
            continue
        absent = dataclasses.MISSING
        is_required = one.default is absent and one.default_factory is absent
        entry = _Field(model.__name__, one.name, one.name, hints[one.name], is_required, title=one.metadata.get("title"))
        entry.description = one.metadata.get("description")
        entry.bounds = {bound: one.metadata[bound] for bound in _BOUNDS if bound in one.metadata}
        yield _plain(entry)


def _plain(entry: _Field) -> _Field:
    """Without ``Annotated`` and ``Optional`` around the type."""
    while True:
        origin, arguments = get_origin(entry.annotation), get_args(entry.annotation)
        if origin is Annotated:
            entry.annotation = arguments[0]
            entry.bounds = {**_bounds(arguments[1:]), **entry.bounds}
            entry.description = entry.description or _said(arguments[1:])
        elif origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
            entry.annotation = next(one for one in arguments if one is not type(None))
            entry.is_optional = True
        else:
            return entry


def _bounds(metadata: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in metadata:
        found.update(_bounds(getattr(one, "metadata", ())))
        found.update({bound: getattr(one, bound) for bound in _BOUNDS if getattr(one, bound, None) is not None})
    return found


def _said(metadata: Iterable[Any]) -> str | None:
    texts = (one if isinstance(one, str) else getattr(one, "description", None) for one in metadata)
    return next((text for text in texts if text), None)


def _asked(entry: _Field) -> _Asked:
    """The question of a field; all of its bounds must be in it."""
    asked = _by_type(entry) or _of_list(entry) or _structured(entry)
    if entry.bounds:
        raise entry.refused(f"its question cannot have {', '.join(sorted(entry.bounds))}")
    keys = {key: value for key, value in asked.keys.items() if value is not None}
    return _Asked(keys, asked.read)


def _by_type(entry: _Field) -> _Asked | None:
    options = _options(entry, entry.annotation)
    if options is not None:
        return _Asked({"type": "choice", "options": options.keys["options"]}, options.read)
    kinds: dict[Any, Callable[[_Field], _Asked]] = {
        bool: lambda entry: _Asked({"type": "boolean"}),
        int: _integer,
        float: _number,
        str: _text,
        datetime.date: lambda entry: _Asked({"type": "date", "only": "date"}, datetime.date.fromisoformat),
        datetime.datetime: lambda entry: _Asked({"type": "date", "only": "date_time"}, _time),
    }
    kind = kinds.get(entry.annotation)
    return kind(entry) if kind else None


def _of_list(entry: _Field) -> _Asked | None:
    """Lists of options and of texts."""
    if get_origin(entry.annotation) is not list:
        return None
    item = _plain(_Field(entry.model, entry.name, entry.key, get_args(entry.annotation)[0], True))
    options = _options(entry, item.annotation)
    if options is not None:
        keys = {"type": "choice", "multiple": True, "options": options.keys["options"]}
        bounds = {"min": entry.take("min_length"), "max": entry.take("max_length")}
        return _Asked({**keys, **bounds}, lambda answer: [options.read(value) for value in answer])
    if item.annotation is str and not item.is_optional:
        many = _text(item)
        entry.bounds.update(item.bounds)
        return _Asked({**many.keys, "many": True})
    return None


def _options(entry: _Field, annotation: Any) -> _Asked | None:
    """The options of a ``Literal`` or an ``Enum``."""
    if get_origin(annotation) is Literal:
        values, read = list(get_args(annotation)), lambda value: value
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values, read = [member.value for member in annotation], annotation
    else:
        return None
    if not all(isinstance(value, str) for value in values):
        raise entry.refused("options are texts; for a scale use int with ge and le")
    return _Asked({"options": values}, read)


def _integer(entry: _Field) -> _Asked:
    above, below = entry.take("gt"), entry.take("lt")
    low = entry.take("ge") if above is None else above + 1
    high = entry.take("le") if below is None else below - 1
    step = entry.take("multiple_of")
    if low is not None and high is not None and high - low <= _MAX_STEPS and step is None:
        return _Asked({"type": "rating", "min": low, "max": high})
    return _Asked({"type": "number", "integer": True, "min": low, "max": high, "step": step})


def _number(entry: _Field) -> _Asked:
    bounds = {"min": entry.take("ge"), "max": entry.take("le"), "step": entry.take("multiple_of")}
    return _Asked({"type": "number", **bounds}, float)


def _text(entry: _Field) -> _Asked:
    pattern = entry.take("pattern")
    bounds = {"min_chars": entry.take("min_length"), "max_chars": entry.take("max_length")}
    return _Asked({"type": "text", **bounds, "pattern": pattern and _whole(pattern)})


def _whole(pattern: Any) -> str:
    """What the whole of a text matches in which a regular expression is found."""
    text: str = getattr(pattern, "pattern", pattern)
    inner = text[1:-1]
    is_whole = text.startswith("^") and text.endswith("$") and not inner.endswith("\\") and "|" not in inner
    return inner if is_whole else f"(?s:.*)(?:{text})(?s:.*)"


def _time(text: str) -> datetime.datetime:
    # Python 3.10 does not know the letter.
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _structured(entry: _Field) -> _Asked:
    """Other models, lists and dicts, as pydantic describes them."""
    try:
        import pydantic
    except ImportError:
        raise entry.refused(f"without pydantic there is no question for {entry.annotation!r}") from None
    try:
        adapter = pydantic.TypeAdapter(entry.annotation)
        schema = closed(adapter.json_schema())
    except (pydantic.PydanticUserError, pydantic.errors.PydanticInvalidForJsonSchema) as error:
        raise entry.refused(f"there is no question for {entry.annotation!r}") from error
    if schema.get("type") not in ("object", "array") and "$ref" not in schema:
        raise entry.refused(f"there is no question for {entry.annotation!r}: structured answers are objects or lists")
    return _Asked({"type": "structured", "schema": schema}, adapter.validate_python)
