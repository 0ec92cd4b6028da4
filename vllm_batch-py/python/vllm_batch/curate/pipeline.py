"""Records to suggestions: a model is asked, what it says is read and checked, and each answer has a score."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import _native
from ..base import BaseLLM
from ..drive import adrive, drive
from ..errors import Interrupted
from ..outputs import BatchReport, Progress
from ..params import to_json
from ..progress import RunBar, UseTqdm
from .records import Record, Records, answers_of, rows
from .schema import RequestOptions, TaskSchema

__all__ = ["Curated", "CurationReport", "acurate", "curate"]


@dataclass(slots=True)
class CurationReport:
    """What became of the records."""

    records: int
    """Records that there were, those included that cannot be used."""
    suggested: int
    """Records that a model answered about."""
    rejected: int
    """Records that go no further."""
    cut_off: int
    """Records whose answer was cut off; what was complete of it is kept."""
    unreadable_answers: int
    """Questions whose answer could not be used. Their records go on."""
    batch: BatchReport | None
    """The engine's part; ``None`` if there was no record to ask about."""
    suggestions_path: str
    """The records with the models' answers, one a line; the file is kept if there is a folder."""
    rejections_path: str
    text: str = field(default="", repr=False, compare=False)
    """The report in a line, for people: what ``str`` gives."""

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Curated:
    """Records with what a model said."""

    schema: TaskSchema
    records: list[Record]
    """Those that the model answered about, in their order, with one more entry in ``suggestions``. What was said before is that of
    the records that were given; the files of the run do not have it."""
    rejections: list[dict[str, Any]]
    """What was left out, records and answers: ``line``, ``id``, ``stage`` (``read``, ``prompt``, ``model`` or ``answer``), ``code``
    and ``message``."""
    report: CurationReport

    def rows(self) -> list[dict[str, Any]]:
        """One flat dict a record, for tables: ``id``, each question with its answer, and ``QUESTION_score``."""
        return rows(self.records)

    def models(self) -> list[Any]:
        """The answers to each record as an object of the class that the schema was made from; ``None`` where they make none,
        since one is missing, or the class refuses one. :meth:`TaskSchema.to_model` says why.

        Raises:
            TypeError: the schema was not made from a class.
        """
        make = self.schema.model_maker
        return [_object(make, record) for record in self.records]


def _object(make: Callable[[Mapping[str, Any]], Any], record: Mapping[str, Any]) -> Any:
    # A dataclass without one of its values is a TypeError.
    with contextlib.suppress(TypeError, ValueError):
        return make(answers_of(record))
    return None


@dataclass(slots=True)
class _Curation:
    """A run, and what is asked."""

    llm: BaseLLM
    schema: TaskSchema
    records: Records | str | os.PathLike[str]
    folder: str | os.PathLike[str] | None
    options: RequestOptions
    model: str | None
    batch_id: str | None

    def run(self, cancellation: _native.Cancellation, tell: Callable[[Any], object]) -> Curated:
        with self._folder() as folder:
            path, known = self._file(folder)
            options = {
                "records": path,
                "folder": folder,
                "batch_id": self.batch_id,
                "model": self.model,
                "ask": self.options.to_native(),
            }
            fields, raised = _native.run_curation(self.llm._native, self.schema._native, options, cancellation, tell)
            report = CurationReport(*fields)
            records = [_with_known(record, known.get(record["id"], {})) for record in _lines(report.suggestions_path)]
            curated = Curated(self.schema, records, _lines(report.rejections_path), report)
        if isinstance(raised, KeyboardInterrupt):
            message = f"interrupted: {report}; with a folder, run it again to go on"
            raise Interrupted(message, curated) from raised
        if raised is not None:
            raise raised
        return curated

    def _folder(self) -> contextlib.AbstractContextManager[str | os.PathLike[str]]:
        if self.folder is None:
            return tempfile.TemporaryDirectory(prefix="vllm_batch-")
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        return contextlib.nullcontext(self.folder)

    def _file(self, folder: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], dict[str, Mapping[str, Any]]]:
        """The records as the library takes them, and what was said about them, which does not go into the question."""
        if isinstance(self.records, (str, os.PathLike)):
            return self.records, {}
        path, known = Path(folder) / "records.jsonl", dict[str, Mapping[str, Any]]()
        with path.open("w", encoding="utf-8") as file:
            for record in self.records:
                asked = {key: record[key] for key in ("id", "fields", "metadata") if key in record}
                file.write(to_json(asked) + "\n")
                said = {key: record[key] for key in ("suggestions", "responses", "gold") if record.get(key) not in (None, [])}
                if said:
                    # Of two records with one name, the first one is taken.
                    known.setdefault(str(record.get("id")), said)
        return path, known


def _with_known(record: Record, known: Mapping[str, Any]) -> Record:
    """A record with what was said about it before."""
    record["suggestions"] = [*known.get("suggestions", ()), *record["suggestions"]]
    record["responses"] = [*known.get("responses", ()), *record["responses"]]
    if "gold" in known:
        record["gold"] = known["gold"]
    return record


def curate(
    llm: BaseLLM,
    schema: TaskSchema,
    records: Records | str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    options: RequestOptions | None = None,
    model: str | None = None,
    batch_id: str | None = None,
    use_tqdm: UseTqdm = True,
    on_progress: Callable[[Progress], object] | None = None,
) -> Curated:
    """Asks a model about records: each question has an answer that holds, with a score, or a reason why it has none.

    Args:
        llm: Who is asked.
        schema: What is asked.
        records: Dicts with ``id``, ``fields`` and perhaps ``metadata``, such as :meth:`TaskSchema.records` makes; or a file of such
            records, one a line. Dicts may have ``suggestions``, ``responses`` and ``gold``, which they keep; a file may not.
        folder: Where the run keeps its files, so that a call that was killed goes on where it was when it is made again. It
            belongs to this run alone. By default nothing is kept.
        options: How the model is asked.
        model: Who answers, if it is an adapter.
        batch_id: A name for the run, kept with each answer.
        use_tqdm: Whether to show a bar, or the class of bars to show.
        on_progress: Is called as the engine goes on. What it raises ends the run.

    Raises:
        CurationError: a file cannot be read or written.
        RunError: the engine's run had to stop.
        Interrupted: Ctrl-C; its ``partial`` is what there is.
    """
    run = _Curation(llm, schema, records, folder, options or RequestOptions(), model, batch_id)
    return drive(run.run, RunBar(use_tqdm, on_progress))


async def acurate(
    llm: BaseLLM,
    schema: TaskSchema,
    records: Records | str | os.PathLike[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    options: RequestOptions | None = None,
    model: str | None = None,
    batch_id: str | None = None,
    use_tqdm: UseTqdm = False,
    on_progress: Callable[[Progress], object] | None = None,
) -> Curated:
    """:func:`curate` for asyncio, on a thread of its own. To cancel the task cancels the run; what is done is kept."""
    run = _Curation(llm, schema, records, folder, options or RequestOptions(), model, batch_id)
    return await adrive(run.run, RunBar(use_tqdm, on_progress))


def _lines(path: str) -> list[Any]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]
