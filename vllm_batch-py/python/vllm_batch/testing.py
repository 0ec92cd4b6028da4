"""A model that answers from a function, for the tests of programs that use this package: no weights, no waiting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ._native import Engine
from .base import BaseLLM

__all__ = ["ScriptStats", "ScriptedLLM"]


class ScriptStats(NamedTuple):
    """What a :class:`ScriptedLLM` has done so far."""

    submitted: int
    """Requests handed over."""
    finished: int
    failed: int
    aborted: int
    """Requests that were let go before they ended."""
    running: int
    """Requests that have not ended."""


class ScriptedLLM(BaseLLM):
    """A model that answers with what a function returns.

    A token is a word with the white space after it, in prompts as well as in answers. ``max_tokens`` cuts answers off; prompts
    that are empty or too long are refused as a real engine does; other parameters are ignored.

    Args:
        script: Gets the prompt: a text, token ids, or messages. What it raises is the error of the request. By default the
            prompt is the answer.
        served_model_name: Names that batch files may use for it.
        max_model_len: Context length in words.
        max_num_seqs: How many requests it claims to work on at the same time.
        held: Whether answers are held back until they are released.

    Example:
        >>> llm = ScriptedLLM(lambda prompt: prompt.upper())
        >>> llm.generate("hello there", use_tqdm=False)[0].outputs[0].text
        'HELLO THERE'
    """

    def __init__(
        self,
        script: Callable[[Any], str] | None = None,
        *,
        served_model_name: str | Sequence[str] = "scripted",
        max_model_len: int = 4096,
        max_num_seqs: int = 8,
        held: bool = False,
    ) -> None:
        names = [served_model_name] if isinstance(served_model_name, str) else list(served_model_name)
        options = {
            "served_model_name": names,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "held": held,
        }
        engine, self._script = Engine.scripted(script, options)
        super().__init__(engine)

    def release(self, requests: int | None = None) -> None:
        """Lets so many more requests be answered, or all from now on."""
        if requests is None:
            self._script.release_all()
        else:
            self._script.release(requests)

    @property
    def stats(self) -> ScriptStats:
        """What it has done so far."""
        return ScriptStats(*self._script.stats())
