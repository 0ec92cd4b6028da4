"""Schemas by name and version, and what becomes of old answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .. import _native
from .records import Record, Records, list_json
from .schema import TaskSchema

__all__ = ["MigrationReport", "SchemaDiff", "SchemaFile", "SchemaRegistry"]


@dataclass(slots=True)
class SchemaFile:
    """What became of a file of a folder of schemas."""

    path: str
    schema: str | None
    """``id@version``, if it was registered."""
    code: str | None
    error: str | None
    """Why it was not registered."""
    warnings: list[dict[str, Any]] = field(default_factory=list)
    """What may not be as it was meant."""


@dataclass(slots=True)
class SchemaDiff:
    """What changed between two versions of a schema."""

    changes: list[dict[str, str]]
    """``path`` (a JSON pointer), ``kind`` and ``bump`` of each change."""
    bump: str | None
    """Which part of the version must grow: ``major``, ``minor``, ``patch``; ``None`` if nothing changed."""


@dataclass(slots=True)
class MigrationReport:
    """What became of the answers of records."""

    num_records: int
    migrated: list[dict[str, Any]]
    """``record``, ``agent`` and ``report`` (``lost`` and ``changed``) of those whose answers are not all as they were."""

    @property
    def num_lost(self) -> int:
        """Answers that there is no place for any more."""
        return sum(len(one["report"]["lost"]) for one in self.migrated)


class SchemaRegistry:
    """Schemas by name and version. A version that is registered stays as it is.

    Example:
        >>> registry = SchemaRegistry.builtin()
        >>> registry.get("email_evaluation")
        TaskSchema('email_evaluation@1.0.0')
        >>> len(registry.schemas())
        6
    """

    def __init__(self) -> None:
        self._native = _native.Registry()
        self.files: list[SchemaFile] = []
        """Of :meth:`from_dir`: what became of each file."""

    @classmethod
    def builtin(cls) -> SchemaRegistry:
        """The schemas that come with the library."""
        registry = cls()
        registry._native = _native.Registry.builtin()
        return registry

    @classmethod
    def from_dir(cls, folder: str | os.PathLike[str]) -> SchemaRegistry:
        """The files of a folder that end with ``.json``. One that is wrong is told in :attr:`files`, and stops no other.

        Raises:
            SchemaError: the folder cannot be read.
        """
        registry = cls()
        registry._native, files = _native.Registry.from_dir(folder)
        registry.files = [SchemaFile(**entry) for entry in files]
        return registry

    def register(self, schema: TaskSchema) -> TaskSchema:
        """Adds a schema, and returns it. One that is there already, word for word, is no error.

        Raises:
            SchemaError: ``schema_conflict`` if another document has its name and version; ``bump_too_small`` if its version
                does not say how much it changes.
        """
        self._native.register(schema._native)
        return schema

    def get(self, id: str, version: str | None = None) -> TaskSchema | None:
        """One version of a schema, by default the newest release.

        Raises:
            CurationError: ``invalid_version``.
        """
        return _schema(self._native.get(id) if version is None else self._native.get_version(id, version))

    def find(self, id: str, requirement: str) -> TaskSchema | None:
        """The newest version that is asked for, as in ``^1.2``; otherwise as :meth:`get`."""
        return _schema(self._native.find(id, requirement))

    def schemas(self) -> list[TaskSchema]:
        """All schemas by name, and of each the oldest version first."""
        return [TaskSchema(native) for native in self._native.schemas()]

    def __iter__(self) -> Iterator[TaskSchema]:
        return iter(self.schemas())

    def diff(self, id: str, old: str, new: str) -> SchemaDiff | None:
        """What changed between two versions; ``None`` if one of them is not there."""
        diff = self._native.diff(id, old, new)
        return None if diff is None else SchemaDiff(*diff)

    def migrate(self, records: Records, old: str, new: str) -> tuple[list[Record], MigrationReport]:
        """Records of an older version as records of a newer one: what models said, with their scores, and what people said.

        Args:
            records: Records with answers to the older version.
            old: That version, as ``mail@1.0.0``.
            new: The newer one.

        Raises:
            SchemaError: there is no such schema, or it is the older one.
            CurationError: a record is none of the older version.
        """
        migrated, report = self._native.migrate(list_json(records), old, new)
        return migrated, MigrationReport(**report)


def _schema(native: _native.Schema | None) -> TaskSchema | None:
    return None if native is None else TaskSchema(native)
