"""A prompt for each row of a table: pandas, Polars, Arrow, Hugging Face datasets, or lists of dicts, in and out.

A table comes back as what it was, with new columns; the others are those of the input, not copies. No library for tables is
imported that the table itself does not come from.
"""

from __future__ import annotations

import contextlib
import json
import os
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from .batch import Run
from .errors import Interrupted
from .outputs import RequestOutput
from .params import SamplingParams, StructuredOutputsParams, to_json
from .progress import Bar, UseTqdm

if TYPE_CHECKING:
    from .base import BaseLLM
    from .work import Completed

__all__ = ["Map", "adapter"]

CHUNK = 1024
"""Rows that are turned into objects of Python at a time."""

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
        output_column: str = "output",
        error_column: str = "error",
        window: int | None = None,
    ) -> None:
        self._engine = engine
        self._table = adapter(table)
        self._prompt = prompt
        self._system = system
        self._params = (sampling_params or SamplingParams()).clone()
        self._fields: list[str] | None = None
        if schema is not None:
            self._params.structured_outputs = StructuredOutputsParams(json=schema)
            self._fields = _properties(self._params.structured_outputs.to_body()["json"])
        self._output_column, self._error_column, self._window = output_column, error_column, window
        self._errors: list[str | None] = [None] * len(self._table)
        names = self._fields or [output_column]
        self._columns: dict[str, list[Any]] = {name: [None] * len(self._table) for name in names}
        self._is_done = bytearray(len(self._table))
        taken = sorted({*self._columns, error_column} & set(self._table.names()))
        if taken:
            raise ValueError(f"the table has columns of these names: {', '.join(taken)}")

    def run(self, use_tqdm: UseTqdm) -> Any:
        """Asks about all rows, and returns the table with the answers."""
        try:
            with Bar(use_tqdm, len(self._table)) as bar, contextlib.closing(iter(self._ends())) as ends:
                for index, output in ends:
                    self._put(index, output)
                    bar.update(output)
        except KeyboardInterrupt as interrupt:
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
        return self._engine.iter_chat(self._conversations(), self._params, window=self._window)

    def _conversations(self) -> Iterator[list[dict[str, Any]]]:
        before = [] if self._system is None else [{"role": "system", "content": self._system}]
        for prompt in self._prompts():
            messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
            yield before + messages

    def _prompts(self) -> Iterator[Any]:
        if callable(self._prompt):
            return (self._prompt(row) for row in self._table.rows(self._table.names()))
        names = _named(self._prompt)
        missing = sorted(set(names) - set(self._table.names()))
        if missing:
            raise ValueError(f"the table has no columns of these names: {', '.join(missing)}")
        fill = self._prompt.format_map
        return (fill(row) for row in self._table.rows(names))

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
        if self._params.structured_outputs is not None:
            if finish_reason == "length":
                return self._put_error(index, "incomplete", f"`max_tokens` cut the answer off: {text}")
            try:
                value = json.loads(text)
            except ValueError as error:
                return self._put_error(index, "invalid_json", f"{error}: {text}")
        for name, column in self._columns.items():
            column[index] = value.get(name) if self._fields else value
        self._is_done[index] = True

    def _interrupted(self) -> Interrupted[Any]:
        done = sum(self._is_done)
        for index in (index for index, is_done in enumerate(self._is_done) if not is_done):
            self._errors[index] = "request_aborted: the call was interrupted before the row was done"
        message = f"interrupted: {done} of {len(self._table)} rows are done; `partial` of this exception is the table"
        return Interrupted(message, self._result())

    def _result(self) -> Any:
        return self._table.with_columns({**self._columns, self._error_column: self._errors})

    @contextlib.contextmanager
    def _file(self, path: Path) -> Iterator[Run]:
        """A batch file of all rows, as long as it runs."""
        requests = path.with_suffix(".requests.jsonl")
        body = {"model": self._engine.served_model_names[0], **self._params.to_body()}
        line = {"custom_id": "", "method": "POST", "url": "/v1/chat/completions", "body": body}
        try:
            with requests.open("w", encoding="utf-8") as file:
                for index, messages in enumerate(self._conversations()):
                    line["custom_id"], body["messages"] = str(index), messages
                    file.write(to_json(line) + "\n")
            yield Run(requests, path, path.with_suffix(".errors.jsonl"), window=self._window)
        finally:
            requests.unlink(missing_ok=True)

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


def _named(template: str) -> list[str]:
    """The columns that a template names."""
    fields = (field for _, field, _, _ in string.Formatter().parse(template) if field is not None)
    return list(dict.fromkeys(field.split(".")[0].split("[")[0] for field in fields))


def _properties(schema: Any) -> list[str] | None:
    """The fields of an object that a schema describes."""
    schema = json.loads(schema) if isinstance(schema, str) else schema
    return list(schema.get("properties", ())) or None


class _Rows:
    """A list of dicts."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def names(self) -> list[str]:
        return list(self.table[0]) if self.table else []

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        return [row[name] for row in self.table[start:stop]]

    def rows(self, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The values of these columns, row by row."""
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            if not names:
                yield from ({} for _ in range(start, stop))
            for values in zip(*(self.column(name, start, stop) for name in names)):
                yield dict(zip(names, values))

    def with_columns(self, columns: dict[str, list[Any]]) -> Any:
        values = zip(*columns.values())
        return [{**row, **dict(zip(columns, new))} for row, new in zip(self.table, values)]


class _Pandas(_Rows):
    def names(self) -> list[str]:
        return list(self.table.columns)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[name].iloc[start:stop].tolist()
        return values

    def with_columns(self, columns: dict[str, list[Any]]) -> Any:
        import pandas

        table = self.table.copy(deep=False)
        for name, values in columns.items():
            table[name] = pandas.Series(values, index=table.index, dtype=object)
        return table


class _Polars(_Rows):
    def names(self) -> list[str]:
        return list(self.table.columns)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[name].slice(start, stop - start).to_list()
        return values

    def with_columns(self, columns: dict[str, list[Any]]) -> Any:
        import polars

        return self.table.with_columns([polars.Series(name, values) for name, values in columns.items()])


class _Arrow(_Rows):
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table.column(name).slice(start, stop - start).to_pylist()
        return values

    def with_columns(self, columns: dict[str, list[Any]]) -> Any:
        import pyarrow

        table = self.table
        for name, values in columns.items():
            all_null = all(value is None for value in values)
            table = table.append_column(name, pyarrow.array(values, pyarrow.string() if all_null else None))
        return table


class _Dataset(_Rows):
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[start:stop][name]
        return values

    def with_columns(self, columns: dict[str, list[Any]]) -> Any:
        table = self.table
        for name, values in columns.items():
            table = table.add_column(name, values)
        return table


def adapter(table: Any) -> _Rows:
    """How the rows of a table are read, and columns added."""
    kind = type(table)
    library = kind.__module__.split(".")[0]
    adapters: dict[tuple[str, str], type[_Rows]] = {
        ("pandas", "DataFrame"): _Pandas,
        ("polars", "DataFrame"): _Polars,
        ("pyarrow", "Table"): _Arrow,
        ("datasets", "Dataset"): _Dataset,
    }
    known = adapters.get((library, kind.__name__))
    if known is not None:
        return known(table)
    if isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table[:1]):
        return _Rows(table)
    if hasattr(table, "__arrow_c_stream__"):
        import pyarrow

        return _Arrow(pyarrow.table(table))
    raise TypeError(f"expected a table of pandas, Polars, Arrow or datasets, or a list of dicts, found {kind.__name__}")
