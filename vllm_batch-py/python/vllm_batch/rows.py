"""From the arguments of a call to the rows of its work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict, Union

from ._native import Request, Task
from .errors import RequestError
from .params import PoolingParams, SamplingParams, scoring_task, to_json
from .work import Row

__all__ = ["Asked", "ChatOptions", "Conversation", "Prompt", "Rows"]


Prompt = Union[str, Sequence[int], Mapping[str, Any]]
"""A text, or token ids; or as vLLM writes them where they could be something else: ``{"prompt": "…"}``,
``{"prompt_token_ids": […]}``."""
Message = Mapping[str, Any]
"""What someone said, as OpenAI writes it: ``{"role": "user", "content": "Hello"}``."""
Conversation = Sequence[Message]


class ChatOptions(TypedDict, total=False):
    """How conversations become prompts, and how their answers are read. docs/parameters.md says what each does."""

    chat_template: str | None
    chat_template_kwargs: Mapping[str, Any] | None
    add_generation_prompt: bool
    continue_final_message: bool
    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool
    documents: Sequence[Mapping[str, Any]] | None
    reasoning_effort: str | None
    include_reasoning: bool


class Asked(NamedTuple):
    """What is asked of prompts with the same parameters."""

    task: Task
    response_model: Any = None
    """The pydantic model that answers are objects of."""

    @classmethod
    def by(cls, params: SamplingParams | PoolingParams) -> Asked:
        return cls(params.to_task(), getattr(params, "response_model", None))


class Rows:
    """Makes the rows of calls, numbered from the first call on."""

    def __init__(self) -> None:
        self._numbers = itertools.count()

    def _next_id(self) -> str:
        return str(next(self._numbers))

    def texts(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        lora_request: str | None,
        priority: int | Sequence[int] | None,
    ) -> list[Row]:
        each = _several(prompts)
        tasks = _tasks(sampling_params or SamplingParams(), "sampling_params", len(each))
        priorities = _for_each(0 if priority is None else priority, "priority", len(each))
        return [self.text(*row, lora_request) for row in zip(each, tasks, priorities)]

    def inputs(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None,
        lora_request: str | None,
    ) -> list[Row]:
        each = _several(prompts)
        tasks = _tasks(pooling_params or PoolingParams(), "pooling_params", len(each))
        return [self.text(prompt, asked, 0, lora_request) for prompt, asked in zip(each, tasks)]

    def text(self, prompt: Prompt, asked: Asked, priority: int, lora_request: str | None) -> Row:
        content = _content(prompt)
        request_id = self._next_id()
        request = Request(request_id, content, asked.task, priority, lora_request)
        return Row(request_id, request, content if isinstance(content, str) else None, response_model=asked.response_model)

    def chats(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        options: ChatOptions,
        lora_request: str | None,
        priority: int | Sequence[int] | None,
    ) -> list[Row]:
        is_one = bool(messages) and isinstance(messages[0], Mapping)
        each: Any = [messages] if is_one else messages
        tasks = _tasks(sampling_params or SamplingParams(), "sampling_params", len(each))
        priorities = _for_each(0 if priority is None else priority, "priority", len(each))
        rows = zip(each, tasks, priorities)
        return [self.chat(chat, asked, options, priority, lora_request) for chat, asked, priority in rows]

    def chat(
        self, conversation: Conversation, asked: Asked, options: ChatOptions, priority: int, lora_request: str | None
    ) -> Row:
        request_id = self._next_id()
        body = to_json({"messages": list(conversation), **options})
        request = _or_error(Request.chat, request_id, body, asked.task, priority, lora_request)
        return Row(request_id, request, is_chat=True, response_model=asked.response_model)

    def scored(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str] | None,
        labels: Sequence[str] | None,
        label_token_ids: Sequence[int] | None,
        truncate_prompt_tokens: int | None,
    ) -> list[Row]:
        names: tuple[str | int, ...] = (*(labels or ()), *(label_token_ids or ()))
        if data_2 is None:
            asked = Asked(scoring_task(labels, label_token_ids, truncate_prompt_tokens))
            return [self.text(prompt, asked, 0, None)._replace(labels=names) for prompt in _several(data_1)]
        body = {
            "text_1": data_1,
            "text_2": data_2,
            "labels": labels,
            "label_token_ids": label_token_ids,
            "truncate_prompt_tokens": truncate_prompt_tokens,
        }
        requests = Request.pairs(self._next_id(), to_json(body))
        documents = [data_2] if isinstance(data_2, str) else data_2
        pairs = zip(requests, documents)
        return [Row(request.request_id, request, text, labels=("yes", "no")) for request, text in pairs]


def _several(prompts: Any) -> Sequence[Any]:
    """One prompt as several. A list of numbers is one prompt."""
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    prompts = prompts if isinstance(prompts, Sequence) else list(prompts)
    is_ids = len(prompts) > 0 and not isinstance(prompts[0], (str, Mapping)) and hasattr(prompts[0], "__index__")
    return [prompts] if is_ids else prompts


def _content(prompt: Any) -> Any:
    """The text or the token ids of a prompt."""
    if not isinstance(prompt, Mapping):
        return prompt
    others = prompt.keys() - {"prompt", "prompt_token_ids"}
    if others:
        raise TypeError(f"a prompt has `prompt` or `prompt_token_ids`, found {', '.join(sorted(others))}")
    return prompt["prompt_token_ids"] if "prompt_token_ids" in prompt else prompt["prompt"]


def _for_each(value: Any, name: str, count: int) -> Sequence[Any]:
    """One value for all prompts, or one for each."""
    if not isinstance(value, Sequence):
        return [value] * count
    if len(value) != count:
        message = f"invalid value for `{name}`: there are {count} prompts and {len(value)} values"
        raise RequestError(message, "invalid_value", name)
    return value


def _tasks(params: Any, name: str, count: int) -> Iterator[Asked]:
    """The tasks of parameters; those that are the same are made once."""
    made: dict[int, Asked] = {}
    for each in _for_each(params, name, count):
        if id(each) not in made:
            made[id(each)] = Asked.by(each)
        yield made[id(each)]


def _or_error(make: Callable[..., Request], *arguments: Any) -> Request | RequestError:
    try:
        return make(*arguments)
    except RequestError as error:
        return error.with_traceback(None)


