"""What is asked of prompts, with the names of ``vllm.SamplingParams`` and its like.

Parameters are checked when they are made, by the parser that reads batch files: a wrong one raises a
:class:`~vllm_batch.RequestError`, which is a ``ValueError``, with its name in ``param``.
"""

from __future__ import annotations

import copy
import json as json_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ._native import Task

__all__ = ["PoolingParams", "RepetitionDetectionParams", "SamplingParams", "StructuredOutputsParams"]


def to_json(value: Any) -> str:
    """JSON as the library reads it."""
    return json_module.dumps(value, allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    """What has a form of its own: NumPy's numbers and arrays, pydantic's models, dates and times."""
    if isinstance(value, Mapping):
        return dict(value)
    for method in ("tolist", "model_dump", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def closed(schema: Any) -> Any:
    """A JSON Schema of pydantic's whose objects have no other properties, unless they say so. Pydantic ignores those, but a model
    might go on with them."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    # A field that is called `type` is described by an object.
    is_object = found.get("type") == "object" and "properties" in found
    return {"additionalProperties": False, **found} if is_object else found


def _set(params: Any) -> dict[str, Any]:
    """The fields of parameters that say something."""
    named = ((entry.name, getattr(params, entry.name)) for entry in fields(params))
    return {name: value for name, value in named if value is not None}


@dataclass(slots=True)
class StructuredOutputsParams:
    """What answers must look like; exactly one of the first five."""

    json: str | dict[str, Any] | type | None = None
    """A JSON Schema, as a dict, as its JSON, or as a pydantic model (a class with ``model_json_schema``), of which
    ``output.outputs[0].parsed`` is an object then. Objects of a pydantic model have no properties that it does not name, unless it
    allows them."""
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    """A grammar in Lark's syntax."""
    json_object: bool | None = None
    """Any JSON object."""
    disable_any_whitespace: bool | None = None
    """Whether JSON is written without white space. By default it is, unless there is a ``whitespace_pattern``; vLLM's default
    is that it is not."""
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None

    def __post_init__(self) -> None:
        SamplingParams(structured_outputs=self)

    def to_body(self) -> dict[str, Any]:
        """The object as it stands in a request body."""
        body = _set(self)
        schema = getattr(body.get("json"), "model_json_schema", None)
        if schema is not None:
            body["json"] = closed(schema())
        return body


@dataclass(slots=True)
class RepetitionDetectionParams:
    """Ends answers that go round in circles: that end with the same tokens several times over."""

    max_pattern_size: int = 0
    """The longest pattern, in tokens; 0 switches detection off."""
    min_pattern_size: int = 0
    """The shortest pattern, in tokens; 0 counts as 1."""
    min_count: int = 0
    """How often the pattern must come in a row, at least 2."""

    def __post_init__(self) -> None:
        SamplingParams(repetition_detection=self)

    def to_body(self) -> dict[str, Any]:
        """The object as it stands in a request body."""
        return _set(self)


_NEUTRAL: dict[str, Any] = {
    "detokenize": True,
    "flat_logprobs": False,
    "spaces_between_special_tokens": True,
    "extra_args": {},
    "logits_processors": [],
}
"""Parameters of vLLM's that are not implemented, and the value that asks for nothing."""


@dataclass(slots=True)
class SamplingParams:
    """How answers are chosen, token by token, and where they end. Names and meanings are vLLM's.

    One default differs: ``max_tokens`` is ``None``, which means up to the context limit; vLLM stops after 16 tokens. A
    model's ``generation_config.json`` is not used for defaults. docs/parameters.md has each parameter's domain.

    Example:
        >>> SamplingParams(temperature=0, max_tokens=64).max_tokens
        64
        >>> SamplingParams(top_p=2)
        Traceback (most recent call last):
        vllm_batch.errors.RequestError: invalid value for `top_p`: must be above 0 and at most 1
    """

    n: int = 1
    """How many answers to give. Must be 1 at temperature 0, where all would be equal."""
    best_of: int | None = None
    """Generates so many answers and gives the ``n`` with the largest mean log-probability per token."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    top_k: int = 0
    """Keeps this many of the most likely tokens; 0 and -1 keep all."""
    min_p: float = 0.0
    seed: int | None = None
    """Seed of the random numbers. Without one they follow from the engine's seed and the request's number."""
    stop: str | Sequence[str] | None = None
    """Texts that end the answer."""
    stop_token_ids: Sequence[int] | None = None
    """Token ids that end the answer, besides the model's own."""
    ignore_eos: bool = False
    max_tokens: int | None = None
    """The most tokens to generate. ``None``: as many as the context holds."""
    min_tokens: int = 0
    logprobs: int | None = None
    """For each token of the answer, its log-probability and those of this many most likely ones; -1 for all."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt but the first."""
    skip_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    truncate_prompt_tokens: int | None = None
    """Keeps this many of the prompt's last tokens; -1 keeps what leaves room for ``max_tokens``."""
    structured_outputs: StructuredOutputsParams | None = None
    """What answers must look like."""
    logit_bias: dict[int, float] | None = None
    """Added to the logits of single tokens; each from -100 to 100."""
    allowed_token_ids: Sequence[int] | None = None
    bad_words: Sequence[str] | None = None
    thinking_token_budget: int | None = None
    """The most tokens that the model says to itself, in conversations with an engine that has a ``reasoning_parser``."""
    repetition_detection: RepetitionDetectionParams | None = None
    """Ends answers that go round in circles."""
    detokenize: bool = True
    """Only ``True`` is implemented."""
    spaces_between_special_tokens: bool = True
    """Only ``True`` is implemented."""
    flat_logprobs: bool = False
    """Only ``False`` is implemented."""
    logits_processors: Sequence[Any] | None = None
    """Not implemented."""
    extra_args: dict[str, Any] | None = None
    """Not implemented."""

    def __post_init__(self) -> None:
        self.stop = [self.stop] if isinstance(self.stop, str) else list(self.stop or [])
        self.stop_token_ids = list(self.stop_token_ids or [])
        self.bad_words = list(self.bad_words or [])
        self.seed = None if self.seed == -1 else self.seed
        self.to_task()

    def to_body(self) -> dict[str, Any]:
        """The parameters as they stand in a request body."""
        body = _set(self)
        for name, value in _NEUTRAL.items():
            if body.get(name) == value:
                del body[name]
        for name in ("structured_outputs", "repetition_detection"):
            if hasattr(body.get(name), "to_body"):
                body[name] = body[name].to_body()
        return body

    def to_task(self) -> Task:
        """The parameters as the engine takes them.

        Raises:
            RequestError: a parameter is outside its domain, or not implemented.
        """
        return Task.generate(to_json(self.to_body()))

    @property
    def response_model(self) -> Any:
        """The pydantic model that answers are objects of, if ``structured_outputs`` has one."""
        model = getattr(self.structured_outputs, "json", None)
        return model if hasattr(model, "model_validate_json") else None

    def clone(self) -> SamplingParams:
        """A copy that shares nothing."""
        return copy.deepcopy(self)


@dataclass(slots=True)
class PoolingParams:
    """How embeddings are made."""

    truncate_prompt_tokens: int | None = None
    """Keeps this many of the prompt's tokens; -1 keeps what the context holds."""
    dimensions: int | None = None
    """Keeps so many numbers from the front, before the embedding is normalised."""
    use_activation: bool | None = None
    """Whether the embedding is scaled to length 1. ``None``: as the model has it."""
    pooling_type: str | None = None
    """Which hidden states: ``LAST``, ``MEAN`` or ``CLS``. ``None``: as the engine has it."""

    def __post_init__(self) -> None:
        self.to_task()

    def to_task(self) -> Task:
        """The parameters as the engine takes them.

        Raises:
            RequestError: a parameter is outside its domain.
        """
        return Task.embed(to_json(_set(self)))

    def clone(self) -> PoolingParams:
        """A copy that shares nothing."""
        return copy.deepcopy(self)


def scoring_task(
    labels: Sequence[str] | None, label_token_ids: Sequence[int] | None, truncate_prompt_tokens: int | None
) -> Task:
    """A task that scores these labels: texts, then single tokens."""
    names = {"labels": labels, "label_token_ids": label_token_ids, "truncate_prompt_tokens": truncate_prompt_tokens}
    return Task.score(to_json({name: value for name, value in names.items() if value is not None}))
