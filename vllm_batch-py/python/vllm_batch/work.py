"""Requests on their way through an engine: the one loop below all calls, for those who wait and for those who await."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import warnings
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ._native import Engine, InFlight, Request
from .errors import FailedRequestsWarning, Interrupted, RequestError
from .outputs import OutputList
from .progress import Bar, UseTqdm

__all__ = ["Completed", "Row"]

TICK = 0.1
"""Seconds between two looks whether someone interrupted."""


class _OutputClass(Protocol):
    def failed(self, request_id: str, prompt: str | None, error: RequestError) -> Any: ...


Out = TypeVar("Out")


class Row(NamedTuple):
    """One prompt of a call."""

    request_id: str
    request: Request | RequestError
    """What is asked of the engine, or why it cannot be asked."""
    prompt: str | None = None
    """The prompt's text, if it is one."""
    is_chat: bool = False
    labels: tuple[str | int, ...] = ()
    """What labels are called whose scores were asked for."""
    response_model: Any = None
    """The pydantic model that answers are objects of."""


class Completed(Generic[Out]):
    """Outputs in the order in which they are done, each with the place of its prompt: ``for index, output in …``, or the same
    with ``async for``.

    Prompts are taken one by one, and never more than ``window`` are under way, so that memory stays flat for any number of
    them. To stop early lets the rest go.
    """

    def __init__(self, engine: Engine, rows: Iterable[Row], kind: _OutputClass, window: int | None = None) -> None:
        self._engine = engine
        self._rows = rows
        self._kind = kind
        self._window = window
        self._open: dict[int, Row] = {}
        self._ended: list[tuple[int, Any]] = []
        self._flight: InFlight | None = None
        self._decode: Callable[[list[int]], str] | None = None

    def __iter__(self) -> Generator[tuple[int, Out], None, None]:
        return self._iterate()

    def __aiter__(self) -> AsyncGenerator[tuple[int, Out], None]:
        return self._aiterate()

    def _iterate(self) -> Generator[tuple[int, Out], None, None]:
        flight = self._start()
        try:
            for _ in self._submit(flight):
                while self._is_full(flight):
                    flight.wait(self._ended, TICK)
                    yield from self._take()
            while len(flight) or self._ended:
                flight.wait(self._ended, TICK)
                yield from self._take()
        finally:
            flight.cancel()

    async def _aiterate(self) -> AsyncGenerator[tuple[int, Out], None]:
        flight = self._start()
        try:
            for _ in self._submit(flight):
                while self._is_full(flight):
                    await self._await_ended(flight)
                    for entry in self._take():
                        yield entry
            while len(flight) or self._ended:
                await self._await_ended(flight)
                for entry in self._take():
                    yield entry
        finally:
            flight.cancel()

    def collect(self, use_tqdm: UseTqdm, raise_on_error: bool) -> list[Out]:
        """All outputs in the order of their prompts."""
        self._rows = list(self._rows)
        outputs: list[Any] = [None] * len(self._rows)
        try:
            with Bar(use_tqdm, len(self._rows)) as bar:
                with contextlib.closing(self._iterate()) as ends:
                    for index, output in ends:
                        outputs[index] = output
                        self._check(index, output, raise_on_error)
                        bar.update(output)
        except KeyboardInterrupt as interrupt:
            raise self._interrupted(outputs) from interrupt
        return _with_warning(outputs)

    async def acollect(self, use_tqdm: UseTqdm, raise_on_error: bool) -> list[Out]:
        """The same for those who await."""
        self._rows = list(self._rows)
        outputs: list[Any] = [None] * len(self._rows)
        with Bar(use_tqdm, len(self._rows)) as bar:
            async with contextlib.aclosing(self._aiterate()) as ends:
                async for index, output in ends:
                    outputs[index] = output
                    self._check(index, output, raise_on_error)
                    bar.update(output)
        return _with_warning(outputs)

    def rest(self) -> list[tuple[int, Out]]:
        """What had ended when an interrupt came, and was not given away before."""
        if self._flight is not None:
            self._flight.wait(self._ended, 0)
        return [(index, self._output(self._open[index], end)) for index, end in self._ended]

    def _start(self) -> InFlight:
        self._ended.clear()
        self._open.clear()
        tokenizer = self._engine.tokenizer()
        self._decode = tokenizer.decode if tokenizer else None
        self._flight = self._engine.open()
        return self._flight

    def _submit(self, flight: InFlight) -> Iterator[None]:
        """Hands over one request after the other, and stops after each."""
        for index, row in enumerate(self._rows):
            self._open[index] = row
            if isinstance(row.request, RequestError):
                self._ended.append((index, row.request))
            else:
                flight.submit(index, row.request)
            yield

    def _is_full(self, flight: InFlight) -> bool:
        return self._window is not None and len(flight) + len(self._ended) >= self._window

    async def _await_ended(self, flight: InFlight) -> None:
        if self._ended:
            return
        event = asyncio.Event()
        flight.poll(self._ended, functools.partial(_set, asyncio.get_running_loop(), event))
        if not self._ended and len(flight):
            await event.wait()

    def _take(self) -> Iterator[tuple[int, Any]]:
        """What has ended. An entry is given up when the next one is asked for: an interrupt in between loses nothing."""
        while self._ended:
            index, end = self._ended[-1]
            yield index, self._output(self._open[index], end)
            self._ended.pop()
            del self._open[index]

    def _output(self, row: Row, end: Any) -> Any:
        if isinstance(end, RequestError):
            return self._kind.failed(row.request_id, row.prompt, end)
        if end.prompt is None:
            end.prompt = row.prompt
        if row.is_chat and self._decode:
            end.prompt = self._decode(end.prompt_token_ids)
        for label, name in zip(getattr(end.outputs, "labels", ()), row.labels):
            label.label = name
        if row.response_model is not None:
            for answer in end.outputs:
                answer.response_model = row.response_model
        return end

    def _check(self, index: int, output: Any, raise_on_error: bool) -> None:
        if raise_on_error and output.error is not None:
            output.error.index = index
            raise output.error

    def _interrupted(self, outputs: list[Any]) -> Interrupted[list[Any]]:
        for index, output in self.rest():
            outputs[index] = output
        aborted = RequestError("the call was interrupted before the request was complete", "request_aborted", None, 499, True)
        done = sum(output is not None for output in outputs)
        for index, row in enumerate(self._rows):
            if outputs[index] is None:
                outputs[index] = self._kind.failed(row.request_id, row.prompt, aborted)
        message = f"interrupted: {done} of {len(outputs)} prompts are done; `partial` of this exception has their outputs"
        return Interrupted(message, OutputList(outputs))


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Called on another thread. A loop that was closed has nobody who waits."""
    try:
        loop.call_soon_threadsafe(event.set)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _with_warning(outputs: list[Any]) -> list[Any]:
    failed = [output.error for output in outputs if output.error is not None]
    if failed:
        message = f"{len(failed)} of {len(outputs)} prompts failed, the first one with: {failed[0]} (see `output.error`)"
        warnings.warn(message, FailedRequestsWarning, stacklevel=4)
    return OutputList(outputs)
