"""What comes back, with the names of ``vllm.outputs``.

Where a request failed its output has an ``error``, and nothing else of use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from . import notebook
from .errors import RequestError

__all__ = [
    "BatchReport",
    "CompletionOutput",
    "EmbeddingOutput",
    "EmbeddingRequestOutput",
    "LabelScore",
    "Logprob",
    "OutputList",
    "Progress",
    "RequestOutput",
    "ScoringOutput",
    "ScoringRequestOutput",
    "Usage",
]


@dataclass(slots=True)
class Usage:
    """Token counts of one request, all its answers together."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens generated, also for answers that ``best_of`` left out."""
    cached_tokens: int = 0
    """Those of ``prompt_tokens`` that were not computed again, because the prefix cache held them."""

    @property
    def total_tokens(self) -> int:
        """Prompt and generated tokens together."""
        return self.prompt_tokens + self.completion_tokens


class _Counted:
    """What the outputs of all requests have in common."""

    __slots__ = ()
    usage: Usage

    @property
    def num_cached_tokens(self) -> int:
        """Tokens of the prompt that the prefix cache held."""
        return self.usage.cached_tokens

    def _repr_html_(self) -> str:
        return notebook.outputs_table([self])


@dataclass(slots=True)
class Logprob:
    """How likely the model found a token."""

    logprob: float
    """The natural logarithm of the probability; ``-inf`` for an impossible token."""
    rank: int | None = None
    """Its place among all tokens, from 1; ``None`` where a remote server does not say it."""
    decoded_token: str | None = None


TokenLogprobs = dict[int | str, Logprob]
"""Token ids to log-probabilities, the token that is there first. Where a remote server says no ids, its text is the key."""


@dataclass(slots=True)
class CompletionOutput:
    """One answer."""

    index: int
    """Which of the request's answers this is, from 0."""
    text: str
    """Without stop strings and special tokens, unless they were asked for."""
    token_ids: list[int]
    """The tokens, the one that ended the answer included."""
    cumulative_logprob: float | None = None
    """The sum of the tokens' log-probabilities, if ``logprobs`` or ``best_of`` was asked for."""
    logprobs: list[TokenLogprobs] | None = None
    """One entry for each token, if asked for."""
    finish_reason: str | None = None
    """``stop``, ``length``, ``tool_calls`` or ``repetition``."""
    stop_reason: int | str | None = None
    """The stop token or stop string that ended the answer, if one did."""
    reasoning: str | None = None
    """What the model said to itself, if the engine has a ``reasoning_parser``."""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """The functions that it called, as OpenAI writes them."""
    response_model: Any = field(default=None, repr=False, compare=False)
    """The pydantic model that ``structured_outputs`` named."""

    @property
    def parsed(self) -> Any:
        """The answer as an object of the pydantic model that ``StructuredOutputsParams(json=Model)`` named; ``None`` without one.

        Raises:
            pydantic.ValidationError: a ``ValueError``; the answer was cut off, or breaks a rule that no JSON Schema says.
        """
        return None if self.response_model is None else self.response_model.model_validate_json(self.text)

    def finished(self) -> bool:
        """Whether the answer is whole."""
        return self.finish_reason is not None


@dataclass(slots=True)
class RequestOutput(_Counted):
    """The answers to one prompt."""

    request_id: str
    prompt: str | None
    """The prompt's text, that of a conversation as the template rendered it; ``None`` for token ids."""
    prompt_token_ids: list[int] | None
    """The prompt as the model read it."""
    prompt_logprobs: list[TokenLogprobs | None] | None = None
    """One entry for each token of the prompt, if asked for; the first is ``None``."""
    outputs: list[CompletionOutput] = field(default_factory=list)
    """The ``n`` answers, by index; empty if there is an ``error``."""
    finished: bool = True
    usage: Usage = field(default_factory=Usage)
    """What the request cost."""
    error: RequestError | None = None
    """Why there is no answer."""

    @classmethod
    def failed(cls, request_id: str, prompt: str | None, error: RequestError) -> RequestOutput:
        """The output of a request without an answer."""
        return cls(request_id, prompt, None, finished=True, error=error)

    @property
    def metrics(self) -> Usage:
        """What the request cost, under vLLM's name."""
        return self.usage


@dataclass(slots=True)
class EmbeddingOutput:
    """An embedding."""

    embedding: list[float]
    """One number for each dimension; none if there is an ``error``."""

    @property
    def hidden_size(self) -> int:
        """Number of dimensions."""
        return len(self.embedding)

    def __repr__(self) -> str:
        return f"EmbeddingOutput(hidden_size={self.hidden_size})"


@dataclass(slots=True)
class EmbeddingRequestOutput(_Counted):
    """The embedding of one prompt."""

    request_id: str
    outputs: EmbeddingOutput
    prompt_token_ids: list[int]
    finished: bool = True
    usage: Usage = field(default_factory=Usage)
    prompt: str | None = None
    error: RequestError | None = None

    @classmethod
    def of(cls, request_id: str, embedding: list[float], prompt_token_ids: list[int], usage: Usage) -> EmbeddingRequestOutput:
        """An output of its parts."""
        return cls(request_id, EmbeddingOutput(embedding), prompt_token_ids, usage=usage)

    @classmethod
    def failed(cls, request_id: str, prompt: str | None, error: RequestError) -> EmbeddingRequestOutput:
        """The output of a request without an embedding."""
        return cls(request_id, EmbeddingOutput([]), [], prompt=prompt, error=error)


@dataclass(slots=True)
class LabelScore:
    """How likely one label is as the answer."""

    logprob: float
    """The natural logarithm of the probability that the answer begins with the label."""
    probability: float
    """Its share among the labels of the request; together they have 1."""
    label: str | int | None = None
    """The label, as it was given."""


@dataclass(slots=True)
class ScoringOutput:
    """Scores of one prompt."""

    score: float
    """The probability of the first label, of a pair of texts that of yes; NaN if there is an ``error``."""
    labels: list[LabelScore] = field(default_factory=list)
    """One entry for each label, in order."""

    @property
    def label(self) -> str | int | None:
        """The most likely label; of equally likely ones the first."""
        return max(self.labels, key=lambda label: label.logprob).label if self.labels else None


@dataclass(slots=True)
class ScoringRequestOutput(_Counted):
    """How likely labels are after one prompt, or how well one text answers another."""

    request_id: str
    outputs: ScoringOutput
    prompt_token_ids: list[int]
    finished: bool = True
    usage: Usage = field(default_factory=Usage)
    prompt: str | None = None
    error: RequestError | None = None

    @classmethod
    def of(
        cls, request_id: str, labels: Sequence[tuple[float, float]], prompt_token_ids: list[int], usage: Usage
    ) -> ScoringRequestOutput:
        """An output of each label's log-probability and probability."""
        scores = [LabelScore(logprob, probability) for logprob, probability in labels]
        return cls(request_id, ScoringOutput(scores[0].probability, scores), prompt_token_ids, usage=usage)

    @classmethod
    def failed(cls, request_id: str, prompt: str | None, error: RequestError) -> ScoringRequestOutput:
        """The output of a request without scores."""
        return cls(request_id, ScoringOutput(math.nan), [], prompt=prompt, error=error)


class OutputList(list[Any]):
    """The outputs of a call, in the order of its prompts: a list that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return notebook.outputs_table(self)


@dataclass(slots=True)
class Progress:
    """How far a batch run is."""

    total: int
    """Rows in the input."""
    completed: int
    """Rows answered in this run."""
    failed: int
    """Rows of this run that ended with an error."""
    skipped: int
    """Rows that an earlier run had done."""
    deduplicated: int
    """Those of ``completed`` and ``failed`` that have the answer or the error of another row, which asks for the same."""
    running: int
    """Rows that the engine has now."""
    prompt_tokens: int
    """Prompt tokens of the completed rows."""
    cached_tokens: int
    """Those of ``prompt_tokens`` that were not computed again."""
    generated_tokens: int
    """Tokens generated in this run, those of rows that are not finished included."""
    elapsed_seconds: float
    tokens_per_second: float
    """``generated_tokens`` per second."""
    eta_seconds: float | None
    """Time left if rows go on ending at the average rate; ``None`` before the first has ended."""

    @property
    def done(self) -> int:
        """Rows that are done: completed, failed or skipped."""
        return self.completed + self.failed + self.skipped


@dataclass(slots=True)
class BatchReport:
    """What a batch run came to."""

    status: str
    """``completed``; ``cancelled`` or ``expired`` if the rest can be resumed."""
    total: int
    """Rows in the input."""
    completed: int
    """Rows answered in this run."""
    failed: int
    """Rows of this run that ended with an error."""
    skipped: int
    """Rows that an earlier run had done."""
    skipped_failed: int
    """Those of ``skipped`` that ended with an error."""
    deduplicated: int
    """Those of ``completed`` and ``failed`` that have the answer or the error of another row, which asks for the same."""
    stale: int
    """Rows of earlier runs that do not hold any longer and were moved to ``stale_path``."""
    prompt_tokens: int
    cached_tokens: int
    """Those of ``prompt_tokens`` that were not computed again, because the prefix cache held them."""
    completion_tokens: int
    """Tokens generated for the rows that were answered in this run."""
    generated_tokens: int
    """Tokens generated in this run, those of rows that failed or were cancelled included."""
    elapsed_seconds: float
    tokens_per_second: float
    output_path: str
    """The answers."""
    errors_path: str
    """The errors; the same as ``output_path`` where errors are among the answers."""
    stale_path: str
    """Rows that do not hold any longer; the file exists if there ever was one."""
    text: str = field(default="", repr=False, compare=False)
    """The report in a few lines, for people: what ``str`` gives."""

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """The report as one JSON object."""
        fields = asdict(self)
        del fields["text"]
        return fields

    def _repr_html_(self) -> str:
        return notebook.report_table(self)
