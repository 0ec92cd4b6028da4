"""What can go wrong, and whose it is. Every error has a stable ``code``; docs/errors.md lists them all."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

__all__ = [
    "CurationError",
    "EngineError",
    "FailedRequestsWarning",
    "Interrupted",
    "LabelStudioError",
    "LoadError",
    "RequestError",
    "RunError",
    "SchemaError",
    "VllmBatchError",
]

_T = TypeVar("_T")


class VllmBatchError(Exception):
    """Everything that this package raises of its own, but :class:`Interrupted`."""

    def __init__(self, message: str, code: str, *rest: Any) -> None:
        super().__init__(message, code, *rest)
        self.message = message
        """What happened, and what to do."""
        self.code = code
        """A stable name for programs to branch on."""

    def __str__(self) -> str:
        return self.message


class LoadError(VllmBatchError):
    """The model could not be loaded, or an option does not fit it."""


class EngineError(VllmBatchError, RuntimeError):
    """There is no engine any more: ``engine_closed`` after ``close``, ``engine_forked`` in a forked process."""


class RequestError(VllmBatchError, ValueError):
    """One request cannot be answered; the engine and the other requests are fine.

    It is the ``error`` of a request's output, and is raised where parameters are made of wrong values, and by calls with
    ``raise_on_error=True``.
    """

    def __init__(
        self, message: str, code: str, param: str | None = None, status_code: int = 400, is_retryable: bool = False
    ) -> None:
        super().__init__(message, code, param, status_code, is_retryable)
        self.param = param
        """The parameter at fault, as a path: ``messages[1].role``."""
        self.status_code = status_code
        """What a server that speaks OpenAI's API answers with."""
        self.is_retryable = is_retryable
        """Whether the same request may succeed when it is sent again unchanged."""
        self.index: int | None = None
        """Which prompt of the call it was, if it was one."""


class RunError(VllmBatchError):
    """A batch run could not start, or had to stop. What was written is kept."""

    def __init__(self, message: str, code: str, problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, code, problems)
        self.problems: list[dict[str, Any]] = problems or []
        """With ``validation_failed``: ``code``, ``message``, ``param`` and ``line`` of each problem in the file."""


class SchemaError(VllmBatchError, ValueError):
    """A document is no schema that can be used, or cannot be registered; or answers cannot be migrated."""

    def __init__(self, message: str, code: str, diagnostics: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, code, diagnostics)
        self.diagnostics: list[dict[str, Any]] = diagnostics or []
        """With ``invalid_schema``: ``code``, ``severity`` (``error`` or ``warning``), ``path`` (a JSON pointer), ``message`` and
        perhaps ``help`` of everything that is wrong or strange, in the order of the document."""


class CurationError(VllmBatchError):
    """Records cannot be read, asked about, reviewed, frozen or exported."""

    def __init__(self, message: str, code: str, problems: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message, code, problems)
        self.problems: list[dict[str, Any]] = problems or []
        """With ``unusable_record``: ``code`` and ``message`` of everything for which it cannot be reviewed."""


class LabelStudioError(CurationError):
    """A review server did not do what it was to do. What it has by then, it keeps."""

    def __init__(self, message: str, code: str, status: int | None = None, is_retryable: bool = False) -> None:
        VllmBatchError.__init__(self, message, code, status, is_retryable)
        self.problems = []
        self.status = status
        """The HTTP status, if the server answered."""
        self.is_retryable = is_retryable
        """Whether the same call may succeed a moment later."""


class Interrupted(KeyboardInterrupt, Generic[_T]):
    """Ctrl-C, or the stop button of a notebook. What was done until then is in ``partial``; the engine goes on."""

    def __init__(self, message: str, partial: _T) -> None:
        super().__init__(message, partial)
        self.message = message
        """How far it was."""
        self.partial = partial
        """The outputs, those of unfinished prompts with the error ``request_aborted``; or what a run came to."""

    def __str__(self) -> str:
        return self.message


class FailedRequestsWarning(UserWarning):
    """Some outputs of a call have an ``error``."""
