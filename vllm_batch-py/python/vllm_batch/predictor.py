"""``BatchPredictor``: a model and a question, for engines that hand out batches of a table to many processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Union

from .base import BaseLLM
from .llm import LLM
from .params import SamplingParams
from .tables import PromptOf

__all__ = ["BatchPredictor", "ModelOf", "load"]

ModelOf = Union[str, "os.PathLike[str]", Callable[[], BaseLLM]]
"""What :class:`~vllm_batch.LLM` loads, or a function that makes what has its methods."""


class BatchPredictor:
    """A model and what it is asked about rows, as a class that is made once in each process and called with batches.

    A row's answer depends on the row alone, not on the batch or the process that it came to, nor on how often it was tried:
    random numbers follow from what ``seed_from`` makes of it.

    Args:
        model: What to load, as for :class:`~vllm_batch.LLM`; or a function without arguments that makes an engine, such as
            ``functools.partial(RemoteLLM, "http://localhost:8000/v1")``.
        prompt: What the model is asked about a row, as for :meth:`~vllm_batch.BaseLLM.map`.
        schema: What answers must look like.
        sampling_params: How answers are chosen.
        system: A message of the role ``system`` before each.
        seed_from: What tells rows apart, such as ``"{id}"``. By default the prompt: rows that ask the same get the same answer.
        output_column: The new column without a ``schema``, and with one that is no object.
        error_column: What went wrong with a row, as ``code: message``, else ``None``.
        engine_options: Those of :class:`~vllm_batch.LLM`. By default it has the ``threads`` that ``OMP_NUM_THREADS`` says, with
            which schedulers tell their processes how many processors they have; without it, one for each processor.

    Raises:
        LoadError: the model cannot be loaded.

    Example:
        >>> from vllm_batch.testing import ScriptedLLM
        >>> predictor = BatchPredictor(ScriptedLLM, "Say {word}")
        >>> predictor({"word": ["hi"]})
        {'word': ['hi'], 'output': ['Say hi'], 'error': [None]}
    """

    def __init__(
        self,
        model: ModelOf,
        prompt: PromptOf,
        *,
        schema: dict[str, Any] | str | type | None = None,
        sampling_params: SamplingParams | None = None,
        system: str | None = None,
        seed_from: PromptOf | None = None,
        output_column: str = "output",
        error_column: str = "error",
        **engine_options: Any,
    ) -> None:
        self._llm = load(model, engine_options)
        self._prompt = prompt
        self._how: dict[str, Any] = {
            "schema": schema,
            "sampling_params": sampling_params,
            "system": system,
            "seed_from": prompt if seed_from is None else seed_from,
            "output_column": output_column,
            "error_column": error_column,
        }

    def __call__(self, batch: Any) -> Any:
        """The batch with the answers in new columns: a table as :meth:`~vllm_batch.BaseLLM.map` takes it."""
        return self._llm.map(batch, self._prompt, use_tqdm=False, **self._how)


def load(model: ModelOf, options: Mapping[str, Any]) -> BaseLLM:
    """The model of a process that has a share of the machine."""
    if not callable(model):
        return LLM(model, **{"threads": _threads(), **options})
    if options:
        raise TypeError(f"the model is made by a function: it cannot be given {', '.join(sorted(options))}")
    return model()


def _threads() -> int | None:
    """The threads that a scheduler gives this process."""
    number = os.environ.get("OMP_NUM_THREADS", "")
    return int(number) if number.isdecimal() and int(number) > 0 else None
