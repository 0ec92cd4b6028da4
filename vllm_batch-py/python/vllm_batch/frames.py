"""Tables of several libraries behind one face: their columns are read in chunks, and new ones are put beside them.

No library for tables is imported that the table itself does not come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .columns import NewColumn, arrow_array, polars_series

__all__ = ["adapter"]

CHUNK = 1024
"""Rows that are turned into objects of Python at a time."""


class Rows:
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

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        values = zip(*(column.values for column in columns.values()))
        return [{**row, **dict(zip(columns, new))} for row, new in zip(self.table, values)]


class _Columns(Rows):
    """A dict of columns: lists, or arrays of NumPy."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        if len({len(column) for column in table.values()}) > 1:
            lengths = ", ".join(f"{name}: {len(column)}" for name, column in table.items())
            raise ValueError(f"the columns have different lengths ({lengths})")

    def __len__(self) -> int:
        return max((len(column) for column in self.table.values()), default=0)

    def names(self) -> list[str]:
        return list(self.table)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: Any = self.table[name][start:stop]
        return list(values.tolist() if hasattr(values, "tolist") else values)

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        return {**self.table, **{name: column.values for name, column in columns.items()}}


class _Pandas(Rows):
    def names(self) -> list[str]:
        return list(self.table.columns)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[name].iloc[start:stop].tolist()
        return values

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        import pandas

        table = self.table.copy(deep=False)
        for name, column in columns.items():
            table[name] = pandas.Series(column.values, index=table.index, dtype=object)
        return table


class _Polars(Rows):
    def names(self) -> list[str]:
        return list(self.table.columns)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[name].slice(start, stop - start).to_list()
        return values

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        return self.table.with_columns([polars_series(name, column) for name, column in columns.items()])


class _Arrow(Rows):
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table.column(name).slice(start, stop - start).to_pylist()
        return values

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        table = self.table
        for name, column in columns.items():
            table = table.append_column(name, arrow_array(column))
        return table


class _Dataset(Rows):
    def names(self) -> list[str]:
        return list(self.table.column_names)

    def column(self, name: str, start: int, stop: int) -> Sequence[Any]:
        values: list[Any] = self.table[start:stop][name]
        return values

    def with_columns(self, columns: Mapping[str, NewColumn]) -> Any:
        table = self.table
        for name, column in columns.items():
            table = table.add_column(name, arrow_array(column))
        return table


def adapter(table: Any) -> Rows:
    """How the rows of a table are read, and columns added. A ``TypeError`` for what is no table."""
    kind = type(table)
    library = kind.__module__.split(".")[0]
    adapters: dict[tuple[str, str], type[Rows]] = {
        ("pandas", "DataFrame"): _Pandas,
        ("polars", "DataFrame"): _Polars,
        ("pyarrow", "Table"): _Arrow,
        ("datasets", "Dataset"): _Dataset,
    }
    adapter = adapters.get((library, kind.__name__))
    if adapter is not None:
        return adapter(table)
    if isinstance(table, Mapping):
        return _Columns(table)
    if isinstance(table, Sequence) and all(isinstance(row, Mapping) for row in table[:1]):
        return Rows(table)
    if hasattr(table, "__arrow_c_stream__"):
        import pyarrow

        return _Arrow(pyarrow.table(table))
    expected = "a table of pandas, Polars, Arrow or datasets, a list of dicts, or a dict of columns"
    raise TypeError(f"expected {expected}, found {kind.__name__}")
