"""``TaskSchema``: one document from which follow the prompt, the format of answers, how they are read, and the review page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import _native
from ..params import SamplingParams, StructuredOutputsParams, to_json
from .models import document_of
from .records import Harvest, Record, Records, list_json, records_of_table

__all__ = ["Answers", "RecordRequest", "RequestOptions", "TaskSchema"]


@dataclass(slots=True)
class RequestOptions:
    """How a model is asked about records."""

    n: int = 1
    """How many answers are asked for. Several make scores by vote."""
    temperature: float | None = None
    """By default 0 for one answer, 1 for several."""
    seed: int | None = None
    max_tokens: int | None = None
    """The most tokens of an answer. By default as many as the longest answer takes, 8192 at most."""
    whole_answers: bool = False
    """Whether texts and lists are held to lengths with which every answer fits ``max_tokens``."""
    logprobs: bool = True
    """Whether log-probabilities are asked for, from which scores come."""
    structured: bool = True
    """Whether answers are JSON that is held to its format; if not, they are written as the schema's template says."""
    examples: Sequence[Mapping[str, Any]] = ()
    """Records whose answers are known, before the record in each prompt: ``{"fields": {…}, "answers": {…}}``."""

    def to_native(self) -> dict[str, Any]:
        """The options as the library takes them."""
        options = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        examples = [{"fields": one["fields"], "answers": one["answers"]} for one in self.examples]
        return {**options, "examples": to_json(examples)}


@dataclass(slots=True)
class RecordRequest:
    """A question about a record: a line of a batch file."""

    custom_id: str
    """The record's id."""
    method: str
    url: str
    body: dict[str, Any]
    """The body of ``/v1/chat/completions``."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation, for :meth:`LLM.chat <vllm_batch.LLM.chat>`."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages

    @property
    def sampling_params(self) -> SamplingParams:
        """How the answer is chosen and what it must look like, for :meth:`LLM.chat <vllm_batch.LLM.chat>`."""
        format = self.body.get("structured_outputs")
        return SamplingParams(
            n=self.body["n"],
            temperature=self.body["temperature"],
            seed=self.body.get("seed"),
            max_tokens=self.body["max_tokens"],
            logprobs=0 if self.body.get("logprobs") else None,
            structured_outputs=StructuredOutputsParams(json=format["json"]) if format else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The line, as :func:`vllm_batch.run_batch` and OpenAI's Batch API take it."""
        return asdict(self)


@dataclass(slots=True)
class Answers:
    """What a model's text says: each question has an answer that holds, an error, or neither."""

    values: dict[str, Any]
    """Answers by question, as docs/curation.md shows them."""
    errors: list[dict[str, Any]]
    """What is wrong with the others, and which are missing: ``question``, ``path``, ``code`` and ``message``."""
    repairs: list[str]
    """What had to be mended before the text could be read, as ``code`` or ``question:code``."""
    _make: Callable[[Mapping[str, Any]], Any] | None = field(default=None, repr=False, compare=False)

    def to_model(self) -> Any:
        """The answers as an object of the class that the schema was made from; see :meth:`TaskSchema.to_model`."""
        return _maker(self._make)(self.values)


class TaskSchema:
    """What is shown, what is asked, and how the answers are used: docs/schemas.md has the document.

    A schema never changes, and was checked as a whole when it was made.

    Example:
        >>> tone = {"id": "tone", "type": "choice", "options": ["formal", "casual"]}
        >>> body = {"id": "body", "type": "text"}
        >>> schema = TaskSchema.from_dict(
        ...     {"format": 1, "id": "mail", "version": "1.0.0", "fields": [body], "questions": [tone]}
        ... )
        >>> schema.parse("Tone: Formal").values
        {'tone': 'formal'}
    """

    def __init__(self, native: _native.Schema, make: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        self._native = native
        self._make = make

    @classmethod
    def from_json(cls, text: str) -> TaskSchema:
        """Reads the JSON of a schema: of the present format, or of the older system.

        Raises:
            SchemaError: all that is wrong with it is in its ``diagnostics``, with JSON pointers.
        """
        return cls(_native.Schema.read(text))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TaskSchema:
        """Reads a file, which is an ``OSError`` where it cannot be read; otherwise as :meth:`from_json`."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> TaskSchema:
        """Makes a schema of a document; otherwise as :meth:`from_json`."""
        return cls.from_json(to_json(document))

    @classmethod
    def from_model(
        cls,
        model: type,
        *,
        fields: Sequence[str | Mapping[str, Any]] = ("text",),
        questions: Mapping[str, Mapping[str, Any]] | None = None,
        **document: Any,
    ) -> TaskSchema:
        """Makes a schema of a pydantic model or a dataclass: each of its fields is a question.

        ``Literal`` and ``Enum`` of texts are choices, and lists of them several; ``bool`` is yes or no; ``int`` with both bounds is
        a rating; other numbers are numbers; ``str`` and ``list[str]`` are texts; ``date`` and ``datetime`` are dates; other models,
        lists and dicts are structured. ``Optional`` fields and those with a default need no answer. Descriptions and titles go
        along. Bounds of a dataclass stand in ``Annotated[int, Ge(1), Le(5)]`` or in ``field(metadata={"ge": 1, "le": 5})``.

        Args:
            model: The class.
            fields: What is shown: names of texts, or fields as documents have them.
            questions: More about questions, by name: ``{"summary": {"multiline": True, "weight": 2}}``.
            document: Other keys of the document. By default ``id`` is the class's name in lower case with ``_`` between words,
                ``version`` is ``1.0.0``, and ``description`` is the docstring.

        Raises:
            TypeError: a field is of a type that is no question.
            SchemaError: the document is no schema.

        Example:
            >>> from dataclasses import make_dataclass
            >>> from typing import Literal
            >>> Mail = make_dataclass("Mail", [("tone", Literal["formal", "casual"])])
            >>> schema = TaskSchema.from_model(Mail, fields=["body"])
            >>> schema.parse('{"tone": "casual"}').to_model()
            Mail(tone='casual')
        """
        made, make = document_of(model, fields, questions or {}, document)
        return cls(_native.Schema.read(to_json(made)), make)

    @property
    def id(self) -> str:
        """Its name."""
        return self._native.id

    @property
    def version(self) -> str:
        """Its version."""
        return self._native.version

    @property
    def reference(self) -> str:
        """Name and version, as ``mail@1.0.0``."""
        return f"{self.id}@{self.version}"

    @property
    def sha256(self) -> str:
        """SHA-256 of the document's canonical JSON."""
        return self._native.sha256

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What may not be as it was meant, as :attr:`SchemaError.diagnostics <vllm_batch.SchemaError.diagnostics>` has it."""
        return self._native.warnings()

    def to_dict(self) -> dict[str, Any]:
        """The document in its canonical form."""
        return self._native.document()

    def json_schema(self, record: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON Schema that a model's answers are held to; for a ranking with the items of a record."""
        return self._native.decode_schema(_json(record))

    def answer_schema(self) -> dict[str, Any]:
        """The JSON Schema of answers for programs that read them without this library."""
        return self._native.json_schema()

    def records(
        self, table: Any, *, id_column: str | None = None, metadata_columns: Sequence[str] = ()
    ) -> list[Record]:
        """A record for each row of a table: columns that are called like fields of the schema are its fields.

        Args:
            table: Of pandas, Polars, Arrow or datasets, or a list of dicts, as for :meth:`LLM.map <vllm_batch.LLM.map>`.
            id_column: What records are called. By default the number of the row, from 0.
            metadata_columns: What else is known about records.
        """
        names = [field["id"] for field in self.to_dict()["fields"]]
        return records_of_table(table, names, id_column, metadata_columns)

    def prompt(self, record: Mapping[str, Any], options: RequestOptions | None = None) -> list[dict[str, Any]]:
        """The conversation that asks a model about a record.

        Raises:
            CurationError: the record lacks a field, has a wrong one, or a template fails.
        """
        return self._native.prompt(_json(record), (options or RequestOptions()).to_native())[0]

    def request(
        self, record: Mapping[str, Any], options: RequestOptions | None = None, *, model: str = "model"
    ) -> RecordRequest:
        """The request that asks about a record: for ``llm.chat(request.messages, request.sampling_params)``, or as the line of a
        batch file. Errors are those of :meth:`prompt`, and ``no_room`` for too small a ``max_tokens`` with ``whole_answers``."""
        line = self._native.batch_line(_json(record), model, (options or RequestOptions()).to_native())
        return RecordRequest(**line)

    def parse(self, text: str, record: Mapping[str, Any] | None = None) -> Answers:
        """Reads what a model wrote. Never fails as a whole: what is wrong is an error of its question.

        Args:
            text: JSON, loose JSON, or a line for each answer.
            record: What it is about: what is asked, and which answers hold, may depend on it.
        """
        values, errors, repairs = self._native.parse(_json(record), text)
        return Answers(values, errors, repairs, self._make)

    def to_model(self, answers: Mapping[str, Any]) -> Any:
        """Answers as an object of the class that the schema was made from (:meth:`from_model`).

        Args:
            answers: Values by question: of a person's response, or of a model with :func:`answers_of`.

        Raises:
            TypeError: the schema was not made from a class; of a dataclass, a field has no answer.
            ValueError: pydantic refuses them.
        """
        return self.model_maker(answers)

    @property
    def model_maker(self) -> Callable[[Mapping[str, Any]], Any]:
        """What makes objects of answers; errors are those of :meth:`to_model`."""
        return _maker(self._make)

    def label_studio_config(self, locale: str = "en") -> str:
        """The review page: a labelling configuration of Label Studio, in a language of the schema.

        Raises:
            SchemaError: the schema can have no page.
        """
        return self._native.label_config(locale)[0]

    def label_studio_task(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The review task of a record, with what models said as predictions.

        Raises:
            CurationError: the record cannot be reviewed; all reasons are in ``problems``.
        """
        return self._native.task(_json(record))

    def harvest(self, task: Mapping[str, Any]) -> Harvest:
        """Reads a task as Label Studio exports it. Never fails: what is wrong is among the ``errors``."""
        return self.harvest_all([task])[0]

    def harvest_all(self, tasks: Sequence[Mapping[str, Any]], *, originals: Records = ()) -> list[Harvest]:
        """Reads the tasks of an export.

        Args:
            tasks: As for :meth:`harvest`.
            originals: The records as they were: as for :meth:`LabelStudio.harvest`.
        """
        return [Harvest(**one) for one in self._native.harvest(to_json(list(tasks)), list_json(originals))]

    def __repr__(self) -> str:
        return f"TaskSchema({self.reference!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (to_json(self.to_dict()), self._make)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskSchema) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)


def _restored(text: str, make: Callable[[Mapping[str, Any]], Any] | None) -> TaskSchema:
    return TaskSchema(_native.Schema.read(text), make)


def _json(record: Mapping[str, Any] | None) -> str:
    return to_json({"id": "", "fields": {}} if record is None else record)


def _maker(make: Callable[[Mapping[str, Any]], Any] | None) -> Callable[[Mapping[str, Any]], Any]:
    if make is None:
        raise TypeError("the schema was not made from a class: see TaskSchema.from_model")
    return make
