"""Review by people on a Label Studio server: records there, and what people said back."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from .. import _native
from ..drive import athread
from ..errors import Interrupted
from .records import Harvest, Records, list_json
from .registry import SchemaRegistry
from .schema import TaskSchema

__all__ = ["ImportReport", "LabelStudio", "Project"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Project:
    """A project on the server."""

    id: int
    title: str
    label_config: str
    """The review page."""
    schema: str | None
    """``id@version`` of the schema that it belongs to."""


@dataclass(slots=True)
class ImportReport:
    """What became of records that were brought to a review server."""

    imported: int
    """Records that this call brought."""
    present: int
    """Records that were there before."""
    removed: int
    """Second copies that an answer that got lost had left, and that were deleted."""
    rejected: list[dict[str, str]]
    """Records that are not there: ``id``, or the task's ``key``, and ``message``."""


class LabelStudio:
    """A client for a Label Studio server (Community Edition 1.20 and later).

    Calls let other threads run, and are sent again where that may help. Those that take long have twins for asyncio, with ``a``
    before the name.

    Args:
        url: Such as ``http://127.0.0.1:8080``.
        token: A legacy token, a personal access token, or an access token. It is never shown.
        timeout: Seconds for one request. By default 60.
        max_retries: How often a request is sent again that failed for a reason that may pass. By default 5.

    Raises:
        LabelStudioError: ``invalid_option``. The server is not asked.
    """

    def __init__(self, url: str, token: str, *, timeout: float | None = None, max_retries: int | None = None) -> None:
        self._native = _native.ReviewServer(url, token, {"timeout": timeout, "max_retries": max_retries})

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._native.url

    def version(self) -> str:
        """The server's version, such as ``1.23.2``. Errors are those of :meth:`import_records`."""
        return self._native.version()

    def whoami(self) -> str:
        """The e-mail address of the token's owner. Errors are those of :meth:`import_records`."""
        return self._native.whoami()

    def ensure_project(
        self,
        schema: TaskSchema,
        registry: SchemaRegistry | None = None,
        *,
        locale: str = "en",
        annotations_per_task: int = 1,
        show_predictions: bool = True,
    ) -> Project:
        """The project of a schema and its major version: as it is, made, or changed to a newer version of the schema.

        Args:
            schema: The schema.
            registry: Knows the version that is replaced, if one is.
            locale: The language of the page.
            annotations_per_task: How many people answer each record.
            show_predictions: Whether people see a model's answers before they give their own.

        Raises:
            LabelStudioError: ``schema_conflict`` if the project has a schema that this one does not follow; and as
                :meth:`import_records`.
            SchemaError: the schema can have no page.
        """
        options = {
            "locale": locale,
            "annotations_per_task": annotations_per_task,
            "show_predictions": show_predictions,
        }
        known = (registry or SchemaRegistry())._native
        return Project(**self._native.ensure_project(schema._native, known, options))

    async def aensure_project(
        self,
        schema: TaskSchema,
        registry: SchemaRegistry | None = None,
        *,
        locale: str = "en",
        annotations_per_task: int = 1,
        show_predictions: bool = True,
    ) -> Project:
        """:meth:`ensure_project` for asyncio."""
        return await _away(
            functools.partial(
                self.ensure_project,
                schema,
                registry,
                locale=locale,
                annotations_per_task=annotations_per_task,
                show_predictions=show_predictions,
            )
        )

    def import_records(
        self, project: int, schema: TaskSchema, records: Records, *, cursor: str | os.PathLike[str] | None = None
    ) -> ImportReport:
        """Brings records into a project, each once, however often this is called.

        Args:
            project: The project's number.
            schema: The schema of the records' answers.
            records: Records, best with what models said: :attr:`Curated.records <vllm_batch.curate.Curated.records>`.
            cursor: A file that says what is there, so that a call that was killed goes on where it was when it is made again.
                Without one the project is searched.

        Raises:
            LabelStudioError: what the network or the server has against it, when trying again did not help.
            CurationError: a record is none.
            Interrupted: Ctrl-C; its ``partial`` is the report.
        """
        return self._import(project, schema, list_json(records), cursor, _native.Cancellation())

    async def aimport_records(
        self, project: int, schema: TaskSchema, records: Records, *, cursor: str | os.PathLike[str] | None = None
    ) -> ImportReport:
        """:meth:`import_records` for asyncio. To cancel the task ends it after the records that are on their way."""
        return await athread(functools.partial(self._import, project, schema, list_json(records), cursor))

    def _import(
        self,
        project: int,
        schema: TaskSchema,
        records: str,
        cursor: str | os.PathLike[str] | None,
        cancellation: _native.Cancellation,
    ) -> ImportReport:
        fields, raised = self._native.import_records(project, schema._native, records, cursor, cancellation)
        report = ImportReport(**fields)
        if isinstance(raised, KeyboardInterrupt):
            raise Interrupted("interrupted: some records are there; run it again to go on", report) from raised
        if raised is not None:
            raise raised
        return report

    def harvest(
        self, project: int, schema: TaskSchema, *, filter: str = "annotated", originals: Records = ()
    ) -> list[Harvest]:
        """Reads what people said in a project.

        Args:
            project: The project's number.
            schema: Its schema.
            filter: ``annotated`` for what somebody has worked on, ``all``, or ``gold`` for gold answers alone.
            originals: The records as they were: fields that are about a person do not go to the server, and are put back from
                here, as metadata are.

        Raises:
            LabelStudioError: as :meth:`import_records`.
        """
        found = self._native.harvest(project, schema._native, filter, list_json(originals))
        return [Harvest(**one) for one in found]

    async def aharvest(
        self, project: int, schema: TaskSchema, *, filter: str = "annotated", originals: Records = ()
    ) -> list[Harvest]:
        """:meth:`harvest` for asyncio."""
        return await _away(functools.partial(self.harvest, project, schema, filter=filter, originals=originals))

    def delete_project(self, project: int) -> None:
        """Deletes a project with all that is in it. Errors are those of :meth:`import_records`."""
        self._native.delete_project(project)

    def __repr__(self) -> str:
        return f"LabelStudio({self.url!r})"


async def _away(call: Callable[[], _T]) -> _T:
    """Work that is over soon, or that nothing can stop on its way."""
    return await athread(lambda cancellation: call())
