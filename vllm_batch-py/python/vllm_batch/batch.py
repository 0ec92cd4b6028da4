"""Batch files: every row comes back exactly once, also after a crash."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from . import _native
from .drive import adrive, drive
from .errors import Interrupted
from .outputs import BatchReport, Progress
from .progress import RunBar, UseTqdm

if TYPE_CHECKING:
    from .base import BaseLLM

__all__ = ["run_batch"]


@dataclass(slots=True)
class Run:
    """A batch file, and how it is answered."""

    input: str | os.PathLike[str]
    output: str | os.PathLike[str]
    errors: str | os.PathLike[str] | None = None
    contract: str = "lenient"
    resume: bool = True
    deadline: float | None = None
    window: int | None = None
    max_line_bytes: int | None = None
    plan: str = "prefix"
    deduplicate: bool = True
    progress_interval: float = 0.2
    created: int | None = None

    def drive(
        self, engine: _native.Engine, use_tqdm: UseTqdm, on_progress: Callable[[Progress], object] | None
    ) -> BatchReport:
        """Runs on this thread until every row is done."""
        return drive(functools.partial(self._run, engine), RunBar(use_tqdm, on_progress))

    async def adrive(
        self, engine: _native.Engine, use_tqdm: UseTqdm, on_progress: Callable[[Progress], object] | None
    ) -> BatchReport:
        """Runs on a thread of its own; progress is told on the thread of the event loop."""
        return await adrive(functools.partial(self._run, engine), RunBar(use_tqdm, on_progress))

    def _run(
        self, engine: _native.Engine, cancellation: _native.Cancellation, tell: Callable[[Progress], object]
    ) -> BatchReport:
        options = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        report, raised = _native.run_batch(engine, options, cancellation, tell)
        if isinstance(raised, KeyboardInterrupt):
            done = report.completed + report.failed + report.skipped
            message = f"interrupted: {done} of {report.total} rows are done; run it again to go on"
            raise Interrupted(message, report) from raised
        if raised is not None:
            raise raised
        return report


def run_batch(
    input_file: str | os.PathLike[str],
    output_file: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | BaseLLM,
    errors_file: str | os.PathLike[str] | None = None,
    contract: str = "lenient",
    resume: bool = True,
    deadline: float | None = None,
    window: int | None = None,
    max_line_bytes: int | None = None,
    plan: str = "prefix",
    deduplicate: bool = True,
    created: int | None = None,
    use_tqdm: UseTqdm = True,
    on_progress: Callable[[Progress], object] | None = None,
    progress_interval: float = 0.2,
    **engine_options: Any,
) -> BatchReport:
    """Answers a file of OpenAI batch requests, so that each of its rows comes back exactly once.

    Rows are appended as they end; a run that was killed, interrupted or cancelled goes on where it was when it is called
    again. Rows whose prompts begin alike run together, and rows that ask for the same run once.

    Args:
        input_file: Requests, one JSON object a line.
        output_file: Where answers go.
        model: What to load, as for :class:`~vllm_batch.LLM`, with ``engine_options``; or an ``LLM`` that is there, which is left
            open.
        errors_file: Where errors go. By default ``answers.errors.jsonl`` beside ``answers.jsonl``.
        contract: ``lenient``, ``openai`` or ``vllm``: docs/contracts.md shows them side by side.
        resume: Whether to go on with what the files hold. If not, files with rows are refused.
        deadline: Seconds after which the run stops; the rest can be resumed.
        window: The most requests in flight. By default twice ``max_num_seqs``, at least 64.
        max_line_bytes: The longest line; a longer one becomes an error row. By default 64 MiB.
        plan: ``prefix`` for rows that begin alike together, ``fifo`` for the order of the file.
        deduplicate: Whether rows that have the same answer run once.
        created: What ``created`` in answers says, in seconds since 1970. By default the time at which a row ended.
        use_tqdm: Whether to show a bar, or the class of bars to show.
        on_progress: Is called at the start, then at most every ``progress_interval`` seconds, and at the end. What it raises ends
            the run; what is done is kept.
        progress_interval: In seconds.
        engine_options: Those of :class:`~vllm_batch.LLM`.

    Raises:
        RunError: the run cannot start, or has to stop; what was written is kept.
        LoadError: the model cannot be loaded.
        Interrupted: Ctrl-C; its ``partial`` is the report.
    """
    from .base import BaseLLM
    from .llm import LLM

    run = Run(
        input_file,
        output_file,
        errors=errors_file,
        contract=contract,
        resume=resume,
        deadline=deadline,
        window=window,
        max_line_bytes=max_line_bytes,
        plan=plan,
        deduplicate=deduplicate,
        progress_interval=progress_interval,
        created=created,
    )
    if isinstance(model, BaseLLM):
        if engine_options:
            raise TypeError(f"the model is loaded: it cannot be given {', '.join(sorted(engine_options))}")
        return run.drive(model._native, use_tqdm, on_progress)
    with LLM(model, **engine_options) as llm:
        return run.drive(llm._native, use_tqdm, on_progress)
