"""A prompt for each row of a table: pandas, Polars, Arrow, Hugging Face datasets, lists of dicts, or dicts of columns, in and
out.

A table comes back as what it was, with new columns; the others are those of the input, not copies.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ._native import Task
from .batch import Run
from .columns import NewColumn, referred
from .errors import Interrupted
from .frames import adapter
from .outputs import RequestOutput
from .params import SamplingParams, StructuredOutputsParams, to_json
from .progress import Bar, UseTqdm
from .rows import Asked, Rows

if TYPE_CHECKING:
    from .base import BaseLLM
    from .work import Completed

__all__ = ["Map"]

PromptOf = Union[str, Callable[[dict[str, Any]], Any]]
"""A template with the columns' names in braces, or a function of a row that gives a text or messages."""


class Map:
    """A table, what is asked about each of its rows, and what came back."""

    def __init__(
        self,
        engine: BaseLLM,
        table: Any,
        prompt: PromptOf,
        *,
        schema: dict[str, Any] | str | type | None = None,
        sampling_params: SamplingParams | None = None,
        system: str | None = None,
        seed_from: PromptOf | None = None,
        output_column: str = "output",
        error_column: str = "error",
        window: int | None = None,
    ) -> None:
        self._engine = engine
        self._table = adapter(table)
        self._prompt, self._system, self._seed_from = prompt, system, seed_from
        self._params = (sampling_params or SamplingParams()).clone()
        self._error_column, self._window = error_column, window
        if schema is not None:
            self._params.structured_outputs = StructuredOutputsParams(json=schema)
        answer = _json_schema(self._params)
        self._is_json = answer is not None
        self._fields: dict[str, Any] = {} if schema is None else dict(referred(answer, answer).get("properties", {}))
        self._errors: list[str | None] = [None] * len(self._table)
        schemas = self._fields or {output_column: answer if self._is_json else {"type": "string"}}
        self._columns = {
            name: NewColumn([None] * len(self._table), schema, answer) for name, schema in schemas.items()
        }
        self._is_done = bytearray(len(self._table))
        taken = sorted({*self._columns, error_column} & set(self._table.names()))
        if taken:
            raise ValueError(f"the table has columns of these names: {', '.join(taken)}")

    def run(self, use_tqdm: UseTqdm) -> Any:
        """Asks about all rows, and returns the table with the answers."""
        completed = self._ends()
        try:
            with Bar(use_tqdm, len(self._table)) as bar, contextlib.closing(iter(completed)) as ends:
                for index, output in ends:
                    self._put(index, output)
                    bar.update(output)
        except KeyboardInterrupt as interrupt:
            for index, output in completed.rest():
                self._put(index, output)
            raise self._interrupted() from interrupt
        return self._result()

    async def arun(self, use_tqdm: UseTqdm) -> Any:
        """The same for asyncio."""
        with Bar(use_tqdm, len(self._table)) as bar:
            async with contextlib.aclosing(aiter(self._ends())) as ends:
                async for index, output in ends:
                    self._put(index, output)
                    bar.update(output)
        return self._result()

    def resume(self, path: Path, use_tqdm: UseTqdm) -> Any:
        """Asks about the rows that have no answer in this file yet."""
        with self._file(path) as run:
            run.drive(self._engine._native, use_tqdm, None)
        return self._read(run)

    async def aresume(self, path: Path, use_tqdm: UseTqdm) -> Any:
        """The same for asyncio."""
        with self._file(path) as run:
            await run.adrive(self._engine._native, use_tqdm, None)
        return self._read(run)

    def _ends(self) -> Completed[RequestOutput]:
        questions = zip(self._conversations(), self._asked())
        # Numbered by their places in the table, from which random numbers follow.
        numbered = Rows()
        rows = (numbered.chat(messages, asked, {}, 0, None) for messages, asked in questions)
        return self._engine._outputs(rows, self._window or self._engine._default_window())

    def _asked(self) -> Iterator[Asked]:
        if self._seed_from is None:
            return itertools.repeat(Asked(self._params.to_task()))
        body = self._params.to_body()
        return (Asked(Task.generate(to_json({**body, "seed": seed}))) for seed in self._seeds(self._seed_from))

    def _seeds(self, seed_from: PromptOf) -> Iterator[int]:
        return (_seed(self._params.seed, value) for value in self._filled(seed_from))

    def _conversations(self) -> Iterator[list[dict[str, Any]]]:
        before = [] if self._system is None else [{"role": "system", "content": self._system}]
        for prompt in self._filled(self._prompt):
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            yield before + messages

    def _filled(self, template: PromptOf) -> Iterator[Any]:
        """What a template or a function makes of each row."""
        if callable(template):
            return (template(row) for row in self._table.rows(self._table.names()))
        names = _named(template)
        missing = sorted(set(names) - set(self._table.names()))
        if missing:
            raise ValueError(f"the table has no columns of these names: {', '.join(missing)}")
        return (template.format_map(row) for row in self._table.rows(names))

    def _put(self, index: int, output: RequestOutput) -> None:
        if output.error is not None:
            self._put_error(index, output.error.code, str(output.error))
        else:
            self._put_text(index, output.outputs[0].text, output.outputs[0].finish_reason)

    def _put_error(self, index: int, code: str, message: str) -> None:
        self._errors[index] = f"{code}: {message}"
        self._is_done[index] = True

    def _put_text(self, index: int, text: str, finish_reason: str | None) -> None:
        value: Any = text
        if self._params.structured_outputs is not None and finish_reason == "length":
            return self._put_error(index, "incomplete", f"`max_tokens` cut the answer off: {text}")
        if self._is_json:
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                return self._put_error(index, "invalid_json", f"{error}: {text}")
        if self._fields and not isinstance(value, dict):
            return self._put_error(index, "invalid_json", f"the answer is not an object: {text}")
        for name, column in self._columns.items():
            column.values[index] = value.get(name) if self._fields else value
        self._is_done[index] = True

    def _interrupted(self) -> Interrupted[Any]:
        done = sum(self._is_done)
        for index in (index for index, is_done in enumerate(self._is_done) if not is_done):
            self._errors[index] = "request_aborted: the call was interrupted before the row was done"
        message = f"interrupted: {done} of {len(self._table)} rows are done; `partial` of this exception is the table"
        return Interrupted(message, self._result())

    def _result(self) -> Any:
        errors = NewColumn(self._errors, {"type": "string"})
        return self._table.with_columns({**self._columns, self._error_column: errors})

    @contextlib.contextmanager
    def _file(self, path: Path) -> Iterator[Run]:
        """A batch file of all rows, as long as it runs."""
        requests = path.with_suffix(".requests.jsonl")
        body = {"model": self._engine.served_model_names[0], **self._params.to_body()}
        line = {"custom_id": "", "method": "POST", "url": "/v1/chat/completions", "body": body}
        try:
            with requests.open("w", encoding="utf-8") as file:
                for index, fields in enumerate(self._bodies()):
                    line["custom_id"] = str(index)
                    body.update(fields)
                    file.write(to_json(line) + "\n")
            yield Run(requests, path, path.with_suffix(".errors.jsonl"), window=self._window)
        finally:
            requests.unlink(missing_ok=True)

    def _bodies(self) -> Iterator[dict[str, Any]]:
        """What differs from row to row."""
        conversations = ({"messages": messages} for messages in self._conversations())
        if self._seed_from is None:
            return conversations
        return ({**fields, "seed": seed} for fields, seed in zip(conversations, self._seeds(self._seed_from)))

    def _read(self, run: Run) -> Any:
        for path in (run.output, run.errors or os.devnull):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    self._put_row(json.loads(line))
        return self._result()

    def _put_row(self, row: dict[str, Any]) -> None:
        index, body = int(row["custom_id"]), (row["response"] or {}).get("body", {})
        error = row["error"] or body.get("error")
        if error is not None:
            return self._put_error(index, error["code"], error["message"])
        choice = body["choices"][0]
        self._put_text(index, choice["message"]["content"] or "", choice["finish_reason"])


def _json_schema(params: SamplingParams) -> Any:
    """What JSON answers keep to; ``None`` if they are other texts."""
    outputs = params.to_body().get("structured_outputs", {})
    if "json" not in outputs:
        return {"type": "object"} if "json_object" in outputs else None
    return json.loads(outputs["json"]) if isinstance(outputs["json"], str) else outputs["json"]


def _named(template: str) -> list[str]:
    """The columns that a template names."""
    fields = (field for _, field, _, _ in string.Formatter().parse(template) if field is not None)
    return list(dict.fromkeys(field.split(".")[0].split("[")[0] for field in fields))


def _seed(seed: int | None, value: Any) -> int:
    """A seed that follows from a value, the same in every process."""
    text = value if isinstance(value, str) else to_json(value)
    digest = hashlib.sha256(f"{seed or 0} {text}".encode("utf-8", "surrogatepass")).digest()
    # Not negative where servers take signed numbers.
    return int.from_bytes(digest[:8], "little") >> 1
