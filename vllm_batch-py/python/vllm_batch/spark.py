"""Spark: a model in each Python process of the executors.

    from vllm_batch.spark import map_in_pandas

    ask = map_in_pandas("HuggingFaceTB/SmolLM2-135M-Instruct", "Is this positive? {review}")
    answered = reviews.mapInPandas(ask, "id long, review string, output string, error string")

Nothing of Spark is imported here.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .base import BaseLLM
from .predictor import BatchPredictor, ModelOf, load
from .tables import PromptOf

if TYPE_CHECKING:
    import pandas

__all__ = ["map_in_pandas"]

_LOADED: dict[str, BaseLLM] = {}
"""The model of this process. Spark keeps processes for the next task."""


def map_in_pandas(
    model: ModelOf, prompt: PromptOf, *, engine_options: Mapping[str, Any] | None = None, **how: Any
) -> Callable[[Iterator[pandas.DataFrame]], Iterator[pandas.DataFrame]]:
    """A function for ``DataFrame.mapInPandas`` that asks about each row.

    The model is loaded when the first task comes to a process, and stays for those that follow; a process has one at a time.

    Args:
        model: As for :class:`~vllm_batch.predictor.BatchPredictor`.
        prompt: As for :meth:`~vllm_batch.BaseLLM.map`.
        engine_options: Those of :class:`~vllm_batch.LLM`.
        how: ``schema``, ``sampling_params``, ``system``, ``seed_from``, ``output_column`` and ``error_column`` of
            :class:`~vllm_batch.predictor.BatchPredictor`.
    """
    options = dict(engine_options or {})
    # Functions are made anew in each process, and may be where another one was.
    name = uuid.uuid4().hex if callable(model) else os.fspath(model)
    key = repr((name, sorted(options.items())))

    def answered(frames: Iterator[pandas.DataFrame]) -> Iterator[pandas.DataFrame]:
        predictor = BatchPredictor(lambda: _engine(key, model, options), prompt, **how)
        yield from map(predictor, frames)

    return answered


def _engine(key: str, model: ModelOf, options: Mapping[str, Any]) -> BaseLLM:
    if key not in _LOADED:
        _LOADED.clear()
        _LOADED[key] = load(model, options)
    return _LOADED[key]
