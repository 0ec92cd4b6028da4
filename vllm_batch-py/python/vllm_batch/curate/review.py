"""How much those who answer agree, which records are worth a look, and which are gold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import _native
from ..errors import CurationError
from ..params import to_json
from .records import Record, Records, list_json
from .schema import TaskSchema

__all__ = [
    "AgreementReport",
    "GoldDecision",
    "GoldSet",
    "Selected",
    "agreement",
    "decide_gold",
    "mark_gold",
    "select_for_review",
]


@dataclass(slots=True)
class AgreementReport:
    """How much people and models agree, question by question. What cannot be computed says why, and is never a number."""

    groups: list[dict[str, Any]]
    """One entry for each comparison: ``compared``, ``shown``, ``overall`` and ``questions``, as docs/curation.md says."""
    confidence: float
    """The share of draws within the intervals."""

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON object."""
        return {"groups": self.groups, "confidence": self.confidence}

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict for each comparison and question, for tables: ``similarity``, ``alpha`` and ``kappa`` are numbers or
        ``None``, with ``_low`` and ``_high`` of their intervals."""
        return [_row(group, question) for group in self.groups for question in group["questions"]]


def _row(group: Mapping[str, Any], question: Mapping[str, Any]) -> dict[str, Any]:
    compared = group["compared"]
    model = None if isinstance(compared, str) else compared["model_human"]["model"]
    row = {"compared": "model_human" if model else compared, "model": model, "shown": group["shown"]}
    row.update({key: question[key] for key in ("question", "level", "num_units", "num_answers", "measure")})
    for name in ("similarity", "alpha", "kappa"):
        interval = question[name].get("interval") or {}
        row[name] = question[name].get("value")
        row[f"{name}_low"], row[f"{name}_high"] = interval.get("low"), interval.get("high")
    row["mean_absolute_error"] = question["mean_absolute_error"]
    return row


def agreement(
    schema: TaskSchema,
    records: Records,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    include_text: bool = False,
) -> AgreementReport:
    """Compares people with people, and models with people and with each other.

    Args:
        schema: What was asked.
        records: Records with ``responses``, and perhaps ``suggestions``.
        seed: The same seed gives the same intervals.
        num_resamples: Draws of the bootstrap; 0 for no intervals.
        confidence: The share of draws within an interval.
        include_text: Whether free text counts in the overall score.

    Raises:
        CurationError: a record is none of the schema.
    """
    comparison = {
        "seed": seed,
        "num_resamples": num_resamples,
        "confidence": confidence,
        "include_text": include_text,
    }
    return AgreementReport(**_native.agree(schema._native, list_json(records), comparison))


@dataclass(slots=True)
class Selected:
    """A record that was chosen."""

    index: int
    """Its place among the records."""
    id: str
    priority: float
    """How much it is worth a person's time, from 0 to 1."""


def select_for_review(
    schema: TaskSchema, records: Records, *, strategy: str = "uncertainty", limit: int = 100, seed: int = 0
) -> list[Selected]:
    """Chooses records that no person has answered yet, those that are worth most first.

    Args:
        schema: What was asked.
        records: Records with ``suggestions``.
        strategy: ``uncertainty`` for those that a model is least sure of, ``disagreement`` for those that models answer most
            differently, or ``random``.
        limit: The most records.
        seed: Decides between records that are worth the same.

    Raises:
        ValueError: there is no such strategy.
        CurationError: a record is none of the schema.
    """
    selected = _native.select_records(schema._native, list_json(records), strategy, limit, seed)
    return [Selected(*one) for one in selected]


@dataclass(slots=True)
class GoldDecision:
    """Whether a record is gold, and why."""

    is_gold: bool
    reasons: list[str]
    """All that speaks for it or against it."""
    answers: dict[str, Any]
    """The settled answers."""
    agreement: float | None
    """The share of questions that people answer alike; ``None`` for fewer than two people."""
    num_annotators: int


def decide_gold(schema: TaskSchema, record: Mapping[str, Any]) -> GoldDecision:
    """Decides by a person's word (``gold`` of the record), else by the schema's rule.

    Raises:
        CurationError: the record is none of the schema.
    """
    return GoldDecision(**_native.decide_gold(schema._native, to_json(record)))


def mark_gold(schema: TaskSchema, records: Records, ids: Iterable[str], is_gold: bool = True) -> list[Record]:
    """The records, of which those with these names are said to be gold, or not to be.

    Raises:
        CurationError: ``unknown_records`` if no record has one of the names; or a record is none of the schema.
    """
    marked, unknown = _native.mark_records(schema._native, list_json(records), list(ids), is_gold)
    if unknown:
        raise CurationError(f"there are no records of these names: {', '.join(unknown)}", "unknown_records")
    return marked


class GoldSet:
    """Gold records that never change, named by their content: the same records, answers and schema have the same ``id``.

    Made by :meth:`freeze` or :meth:`load`.
    """

    def __init__(self, native: _native.Snapshot, others: dict[str, GoldDecision]) -> None:
        self._native = native
        self.others = others
        """Of :meth:`freeze`: the records that are not gold, and why."""

    @classmethod
    def freeze(cls, schema: TaskSchema, records: Records) -> GoldSet:
        """Takes the records that are gold, by the schema's rule or by a person's word (:func:`mark_gold`).

        Raises:
            CurationError: ``duplicate_ids`` if several gold records have the same name; or a record is none of the schema.
        """
        native, others = _native.Snapshot.freeze(schema._native, list_json(records))
        return cls(native, {one["id"]: GoldDecision(**one["decision"]) for one in others})

    @classmethod
    def load(cls, schema: TaskSchema, path: str | os.PathLike[str]) -> GoldSet:
        """Reads a file that :meth:`save` wrote, and checks that it is what its first line says.

        Raises:
            CurationError: ``snapshot_io``, ``malformed_snapshot``, ``changed_snapshot``.
        """
        return cls(_native.Snapshot.load(schema._native, path), {})

    def save(self, folder: str | os.PathLike[str]) -> str:
        """Writes a file that is named by the schema and the content, and returns its path.

        Raises:
            CurationError: ``snapshot_io``.
        """
        return str(self._native.save(folder))

    @property
    def id(self) -> str:
        """SHA-256 of all that is in it."""
        return self._native.id

    @property
    def schema(self) -> str:
        """``id@version`` of the schema."""
        return self._native.schema

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The gold records by name: ``id``, ``fields``, ``answers``, ``agreement``, ``num_annotators`` and ``manual``. As they are,
        they are examples for :class:`RequestOptions`."""
        return self._native.rows()

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"GoldSet({self.schema!r}, {self.id[:16]}, {len(self)} records)"
