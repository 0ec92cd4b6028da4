"""Records: plain data, as the library writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from ..frames import adapter
from ..params import to_json

__all__ = ["Agent", "Harvest", "Record", "Records", "Response", "Suggestion", "SuggestionSet", "answers_of", "rows"]


class Agent(TypedDict):
    """Who answered."""

    name: str
    kind: str
    """``model`` or ``human``."""


class _Suggestion(TypedDict):
    question: str
    answer: Any


class Suggestion(_Suggestion, total=False):
    """A model's answer to one question."""

    score: float
    """How sure the model is, from 0 to 1, if that is known."""
    score_kind: str
    """Where the score comes from: ``logprob``, ``vote``, ``self_report`` or ``none``."""


class SuggestionSet(TypedDict):
    """What one model said about a record."""

    agent: Agent
    suggestions: list[Suggestion]
    provenance: dict[str, Any]
    """How it came about: model, schema, hashes, sampling, repairs."""


class _Response(TypedDict):
    agent: Agent
    answers: dict[str, Any]
    status: str
    """``submitted``, ``draft`` or ``discarded``."""


class Response(_Response, total=False):
    """What one person said about a record."""

    prefilled: bool
    """Whether they saw a model's answers before they gave their own."""
    lead_time: float
    """Seconds that it took them."""


class _Record(TypedDict):
    id: str
    fields: dict[str, Any]
    """Values by the names of the schema's fields."""
    metadata: dict[str, Any]
    """What else is known about it; not shown, and never in a prompt."""
    suggestions: list[SuggestionSet]
    """What models said, the latest last."""
    responses: list[Response]
    """What people said."""


class Record(_Record, total=False):
    """One thing that questions are asked about, as the library gives it. What it takes needs no more than ``id`` and ``fields``."""

    gold: bool | None
    """Whether a person said that it is gold."""


@dataclass(slots=True)
class Harvest:
    """What people said about a record."""

    record: Record
    """With what models and people said. Its metadata have the numbers of the task and the project (``label_studio``)."""
    withheld: list[str]
    """Fields that did not go to the server, and that no original had."""
    errors: list[dict[str, str]]
    """What was left out: ``path``, ``code`` and ``message``."""


Records = Iterable[Mapping[str, Any]]
"""Records, each a dict as :class:`Record` says; what it does not have may be left out."""


def list_json(records: Records) -> str:
    """Records as the library reads them."""
    return to_json(list(records))


def records_of_table(
    table: Any, fields: Sequence[str], id_column: str | None, metadata_columns: Sequence[str]
) -> list[Record]:
    """A record for each row of a table; values that are missing are left out."""
    rows_of = adapter(table)
    names = rows_of.names()
    wanted = [*([id_column] if id_column else []), *metadata_columns]
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise ValueError(f"the table has no columns of these names: {', '.join(missing)}")
    shown = [name for name in fields if name in names]
    columns = list(dict.fromkeys([*shown, *wanted]))
    return [
        {
            "id": str(index if id_column is None else row[id_column]),
            "fields": _present(row, shown),
            "metadata": _present(row, metadata_columns),
            "suggestions": [],
            "responses": [],
        }
        for index, row in enumerate(rows_of.rows(columns))
    ]


def _present(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names if not _is_missing(row[name])}


def _is_missing(value: Any) -> bool:
    # What pandas calls missing, without an import: numbers that are not equal to themselves, NA and NaT.
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


def rows(records: Records) -> list[dict[str, Any]]:
    """What models said last, one flat dict a record: ``id``, each question with its answer, and ``QUESTION_score``. For tables:
    ``pandas.DataFrame(rows(records))``.

    Example:
        >>> said = [{"question": "tone", "answer": "formal", "score": 0.9, "score_kind": "logprob"}]
        >>> rows([{"id": "a", "fields": {}, "suggestions": [{"agent": {"name": "m", "kind": "model"}, "suggestions": said}]}])
        [{'id': 'a', 'tone': 'formal', 'tone_score': 0.9}]
    """
    return [{"id": record["id"], **_flat(record)} for record in records]


def answers_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the last model said about a record: answers by question."""
    return {one["question"]: one["answer"] for one in _latest(record)}


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for one in _latest(record):
        flat[one["question"]], flat[one["question"] + "_score"] = one["answer"], one.get("score")
    return flat


def _latest(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    sets = record.get("suggestions") or [{"suggestions": []}]
    said: Sequence[Mapping[str, Any]] = sets[-1]["suggestions"]
    return said
