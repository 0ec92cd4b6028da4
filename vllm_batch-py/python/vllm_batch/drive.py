"""Work of the library that takes long: on this thread, or on one of its own for those who await."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from ._native import Cancellation
from .progress import RunBar

__all__ = ["adrive", "athread", "drive"]

_T = TypeVar("_T")
_Tell = Callable[[Any], object]


def drive(call: Callable[[Cancellation, _Tell], _T], bar: RunBar) -> _T:
    """Works on this thread, and tells the bar how far it is."""
    try:
        return call(Cancellation(), bar)
    finally:
        bar.close()


async def adrive(call: Callable[[Cancellation, _Tell], _T], bar: RunBar) -> _T:
    """Works on a thread of its own; progress is told on the thread of the event loop. To cancel the task cancels the work, and
    waits until it has ended; so does what the bar raises."""
    loop = asyncio.get_running_loop()
    raised: list[Exception] = []

    def work(cancellation: Cancellation) -> _T:
        def tell(progress: Any) -> None:
            if raised:
                return
            try:
                bar(progress)
            except Exception as error:
                raised.append(error)
                cancellation.cancel()

        return call(cancellation, lambda progress: loop.call_soon_threadsafe(tell, progress))

    try:
        done = await athread(work)
    except Exception as error:
        raise raised[0] if raised else error
    finally:
        bar.close()
    if raised:
        raise raised[0]
    return done


async def athread(call: Callable[[Cancellation], _T]) -> _T:
    """The same for work that tells nothing."""
    cancellation = Cancellation()
    run = asyncio.get_running_loop().run_in_executor(None, call, cancellation)
    try:
        return await asyncio.shield(run)
    except asyncio.CancelledError:
        cancellation.cancel()
        await asyncio.wait([run])
        raise
