"""Bars of tqdm: how many prompts are done, tokens a second, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Union

from .outputs import Progress

UseTqdm = Union[bool, Callable[..., Any]]
"""Whether to show a bar, or the class of bars to show."""


def _bar(use_tqdm: UseTqdm, **options: Any) -> Any:
    """A bar of tqdm's, imported when the first one is shown; or nothing."""
    if not use_tqdm:
        return None
    if callable(use_tqdm):
        return use_tqdm(**options)
    from tqdm.auto import tqdm

    return tqdm(**options)


class Bar:
    """A bar over the prompts of a call."""

    def __init__(self, use_tqdm: UseTqdm, total: int) -> None:
        self._bar = _bar(use_tqdm, total=total, desc="Processed prompts", dynamic_ncols=True)
        self._started = time.monotonic()
        self._tokens = [0, 0]

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, output: Any) -> None:
        """One more prompt is done."""
        if self._bar is None:
            return
        self._tokens[0] += output.usage.prompt_tokens
        self._tokens[1] += output.usage.completion_tokens
        elapsed = max(time.monotonic() - self._started, 1e-9)
        read, written = (count / elapsed for count in self._tokens)
        # Drawn with the next update, not with each.
        self._bar.set_postfix_str(f"input: {read:.1f} tok/s, output: {written:.1f} tok/s", refresh=False)
        self._bar.update()


class RunBar:
    """A bar over the rows of a batch file."""

    def __init__(self, use_tqdm: UseTqdm, then: Callable[[Progress], object] | None) -> None:
        self._use_tqdm = use_tqdm
        self._then = then
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        """Shows how far the run is."""
        if self._bar is None:
            options = {"total": progress.total, "initial": progress.skipped, "desc": "Rows", "dynamic_ncols": True}
            self._bar = _bar(self._use_tqdm, **options) or False
        if self._bar:
            failed = f"{progress.failed} failed, " if progress.failed else ""
            self._bar.set_postfix_str(f"{failed}{progress.tokens_per_second:.1f} tok/s", refresh=False)
            self._bar.update(progress.done - self._bar.n)
        if self._then is not None:
            self._then(progress)

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar:
            self._bar.close()
