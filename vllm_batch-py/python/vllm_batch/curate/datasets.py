"""Training data: records as rows of sixteen formats, and files as their readers would see them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import _native
from ..drive import athread
from .records import Records, list_json
from .schema import TaskSchema

__all__ = [
    "DatasetProblem",
    "DatasetReport",
    "Exported",
    "aexport",
    "avalidate_dataset",
    "export",
    "export_formats",
    "validate_dataset",
]


@dataclass(slots=True)
class Exported:
    """A folder of training data."""

    num_rows: int
    num_records: int
    """Records that gave rows."""
    skipped: dict[str, int]
    """Records that gave none, by the code of the reason; ``skipped.jsonl`` has each."""
    conflicts: dict[str, int]
    """Questions that people answered differently, each with the number of records."""
    files: list[dict[str, Any]]
    """``split``, ``path``, ``num_rows``, ``num_bytes`` and ``sha256`` of each file of rows."""


def export_formats() -> list[str]:
    """The names of all formats; docs/curation.md says who reads which."""
    return _native.export_formats()


def export(
    schema: TaskSchema,
    records: Records,
    format: str,
    folder: str | os.PathLike[str],
    *,
    answers: str = "gold",
    splits: tuple[float, float] | None = None,
    salt: str = "",
    split_key: str | None = None,
    duplicates: float | None = None,
    parquet: bool = False,
    reasoning: bool = False,
    min_strength: float = 0.0,
    annotators: str = "omitted",
    name: str | None = None,
    license: str | None = None,
    languages: Sequence[str] = (),
    notes: str = "",
) -> Exported:
    """Writes a folder of training data: ``data/train.jsonl`` and so on, a card, what was left out and why.

    Args:
        schema: What was asked.
        records: Records with what models and people said.
        format: One of :func:`export_formats`, such as ``openai_chat`` or ``trl_messages``.
        folder: Where it goes.
        answers: Which are the right ones: ``gold``, or ``single_response`` for those of the one person who answered.
        splits: The shares for validation and tests. Where a record goes depends on its group and the salt alone.
        salt: Another salt splits otherwise; with ``annotators="pseudonyms"`` it is a secret.
        split_key: The key of metadata that says which split a record is in, before all others.
        duplicates: How similar texts are, from 0 to 1, of which only the first gets in. By default all get in.
        parquet: Whether rows are written as Parquet files.
        reasoning: Whether models learn to think aloud.
        min_strength: How much a person's answers must differ from a model's for a preference, from 0 to 1.
        annotators: What rows say about people: ``omitted``, ``pseudonyms`` or ``names``.
        name: What people call the dataset. By default the schema's name.
        license: As Hugging Face names it. By default ``other``.
        languages: As in ``en``.
        notes: What else the card says, as Markdown.

    Raises:
        CurationError: there is nothing to learn, two rows have the same name, a file cannot be written, and so on.
        ValueError: there is no such format, or an option is outside its domain.
    """
    options = {
        "format": format,
        "folder": folder,
        "answers": answers,
        "splits": splits and (*splits, salt),
        "salt": salt,
        "split_key": split_key,
        "duplicates": duplicates,
        "parquet": parquet,
        "reasoning": reasoning,
        "min_strength": min_strength,
        "annotators": annotators,
        "name": name,
        "license": license,
        "languages": list(languages),
        "notes": notes,
    }
    written = _native.export_records(schema._native, list_json(records), options)
    return Exported(**written["report"], files=written["files"])


async def aexport(
    schema: TaskSchema, records: Records, format: str, folder: str | os.PathLike[str], **options: Any
) -> Exported:
    """:func:`export` for asyncio, with the same options, on a thread of its own."""
    return await athread(lambda cancellation: export(schema, records, format, folder, **options))


@dataclass(slots=True)
class DatasetProblem:
    """Something that is wrong with a file of training data."""

    line: int
    """From 1; 0 for the file as a whole."""
    path: str
    """JSON pointer of the value within its row."""
    code: str
    effect: str
    """What its reader would do: ``refused``, ``skipped``, ``truncated`` or ``misread``."""
    message: str


@dataclass(slots=True)
class DatasetReport:
    """What is wrong with a file of training data."""

    num_rows: int
    problems: list[DatasetProblem]

    @property
    def is_valid(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def validate_dataset(path: str | os.PathLike[str], format: str) -> DatasetReport:
    """Reads a file as the readers of a format would, and says everything that is wrong with it.

    Raises:
        CurationError: ``io`` if the file cannot be read.
        ValueError: there is no such format.
    """
    num_rows, problems = _native.check_dataset(path, format)
    return DatasetReport(num_rows, [DatasetProblem(**problem) for problem in problems])


async def avalidate_dataset(path: str | os.PathLike[str], format: str) -> DatasetReport:
    """:func:`validate_dataset` for asyncio, on a thread of its own."""
    return await athread(lambda cancellation: validate_dataset(path, format))
