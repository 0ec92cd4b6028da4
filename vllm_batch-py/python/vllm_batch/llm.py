"""``LLM``: a model in this process, with the names of ``vllm.LLM``."""

from __future__ import annotations

import datetime
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypedDict, TypeVar, Union

from . import batch
from ._native import Engine, Request, Task, Tokenizer
from .errors import RequestError
from .outputs import (
    BatchReport,
    EmbeddingRequestOutput,
    Progress,
    RequestOutput,
    ScoringRequestOutput,
)
from .params import PoolingParams, SamplingParams, scoring_task, to_json
from .progress import UseTqdm
from .tables import Map, PromptOf
from .work import Completed, Row

__all__ = ["LLM", "ChatOptions", "RemoteLLM"]


class TextPrompt(TypedDict):
    """A text, as vLLM writes it where it could be something else."""

    prompt: str


class TokensPrompt(TypedDict):
    """Token ids, as vLLM writes them where they could be something else."""

    prompt_token_ids: Sequence[int]


Prompt = Union[str, Sequence[int], TextPrompt, TokensPrompt]
"""A text, or token ids."""
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


_T = TypeVar("_T")
_Params = TypeVar("_Params", SamplingParams, PoolingParams)

_WITHOUT_EFFECT = frozenset(
    """cpu_offload_gb disable_custom_all_reduce disable_log_stats enforce_eager gpu_memory_utilization max_lora_rank
    max_loras swap_space trust_remote_code use_tqdm_on_load""".split()
)
"""Options of vLLM's that say nothing about answers here: accepted at any value."""
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "tensor_parallel_size": (1,),
    "pipeline_parallel_size": (1,),
    "data_parallel_size": (1,),
    "tokenizer": (None,),
    "tokenizer_mode": ("auto",),
    "skip_tokenizer_init": (False,),
    "quantization": (None,),
    "load_format": ("auto",),
    "runner": ("auto", "generate", "pooling"),
    "task": ("auto", "generate", "embed", "score"),
    "enable_lora": (True, False),
    "enable_chunked_prefill": (True, None),
    "generation_config": ("vllm",),
    "limit_mm_per_prompt": (None, {}),
}
"""Options of vLLM's that are not implemented, and the values that ask for nothing."""
_DTYPES = {"float": "float32", "half": "float16"}
"""vLLM's other names of dtypes."""


class _Engine:
    """What can be done with an engine, whichever it is."""

    _native: Engine

    def __init__(self, native: Engine) -> None:
        self._native = native
        self._numbers = itertools.count()

    # --- Texts ---

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: UseTqdm = True,
        lora_request: str | None = None,
        priority: int | Sequence[int] | None = None,
        raise_on_error: bool = False,
    ) -> list[RequestOutput]:
        """Answers prompts, and returns the outputs in their order.

        Args:
            prompts: One prompt or several: texts, or lists of token ids.
            sampling_params: How answers are chosen: for all prompts, or one for each.
            use_tqdm: Whether to show a bar, or the class of bars to show.
            lora_request: The name of an adapter, one of ``lora_modules``.
            priority: Lower is served first: for all prompts, or one for each.
            raise_on_error: Raises the first error, and lets the other prompts go. By default errors are rows: the output of a
                prompt that failed has an ``error`` and no ``outputs``, and there is one warning for all.

        Raises:
            RequestError: with ``raise_on_error``; or lists have another length than ``prompts``.
            EngineError: the engine was closed, or this process was forked.
            Interrupted: Ctrl-C; what was done is in its ``partial``.
        """
        rows = self._texts(prompts, sampling_params, lora_request, priority)
        return self._outputs(rows).collect(use_tqdm, raise_on_error)

    async def agenerate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: UseTqdm = False,
        lora_request: str | None = None,
        priority: int | Sequence[int] | None = None,
        raise_on_error: bool = False,
    ) -> list[RequestOutput]:
        """:meth:`generate` for asyncio. To cancel the task lets its prompts go."""
        rows = self._texts(prompts, sampling_params, lora_request, priority)
        return await self._outputs(rows).acollect(use_tqdm, raise_on_error)

    def iter_generate(
        self,
        prompts: Iterable[Prompt],
        sampling_params: SamplingParams | None = None,
        *,
        lora_request: str | None = None,
        window: int | None = None,
    ) -> Completed[RequestOutput]:
        """Answers prompts as they come, also from a generator that never ends.

        Returns:
            What yields ``(index, output)`` as prompts are done, to ``for`` and to ``async for``. At most ``window`` prompts are
            under way; by default four times ``max_num_seqs``.
        """
        task = (sampling_params or SamplingParams()).to_task()
        rows = (self._text(prompt, task, 0, lora_request) for prompt in prompts)
        return self._outputs(rows, window or self._default_window())

    # --- Conversations ---

    def chat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        use_tqdm: UseTqdm = True,
        lora_request: str | None = None,
        chat_template: str | None = None,
        chat_template_content_format: str = "auto",
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        *,
        tool_choice: str | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool = True,
        documents: Sequence[Mapping[str, Any]] | None = None,
        reasoning_effort: str | None = None,
        include_reasoning: bool = True,
        priority: int | Sequence[int] | None = None,
        raise_on_error: bool = False,
    ) -> list[RequestOutput]:
        """Answers conversations: one list of messages, or several.

        ``chat_template_content_format`` has no effect: messages are texts. All other arguments are those of
        :meth:`generate` and of :class:`ChatOptions`, and so are the errors.
        """
        options: ChatOptions = {
            "chat_template": chat_template,
            "chat_template_kwargs": chat_template_kwargs,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": continue_final_message,
            "tools": tools,
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "documents": documents,
            "reasoning_effort": reasoning_effort,
            "include_reasoning": include_reasoning,
        }
        rows = self._chats(messages, sampling_params, options, lora_request, priority)
        return self._outputs(rows).collect(use_tqdm, raise_on_error)

    async def achat(
        self,
        messages: Conversation | Sequence[Conversation],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        options: ChatOptions | None = None,
        *,
        use_tqdm: UseTqdm = False,
        lora_request: str | None = None,
        priority: int | Sequence[int] | None = None,
        raise_on_error: bool = False,
    ) -> list[RequestOutput]:
        """:meth:`chat` for asyncio. To cancel the task lets its conversations go."""
        rows = self._chats(messages, sampling_params, options or {}, lora_request, priority)
        return await self._outputs(rows).acollect(use_tqdm, raise_on_error)

    def iter_chat(
        self,
        messages: Iterable[Conversation],
        sampling_params: SamplingParams | None = None,
        options: ChatOptions | None = None,
        *,
        lora_request: str | None = None,
        window: int | None = None,
    ) -> Completed[RequestOutput]:
        """Answers conversations as they come; otherwise as :meth:`iter_generate`."""
        task = (sampling_params or SamplingParams()).to_task()
        rows = (self._chat(conversation, task, options or {}, 0, lora_request) for conversation in messages)
        return self._outputs(rows, window or self._default_window())

    # --- Embeddings and scores ---

    def embed(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        use_tqdm: UseTqdm = True,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        lora_request: str | None = None,
        raise_on_error: bool = False,
    ) -> list[EmbeddingRequestOutput]:
        """Makes an embedding of each prompt, in their order: ``output.outputs.embedding``.

        Errors are those of :meth:`generate`.
        """
        rows = self._inputs(prompts, pooling_params, lora_request)
        return self._embeddings(rows).collect(use_tqdm, raise_on_error)

    async def aembed(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        use_tqdm: UseTqdm = False,
        pooling_params: PoolingParams | Sequence[PoolingParams] | None = None,
        lora_request: str | None = None,
        raise_on_error: bool = False,
    ) -> list[EmbeddingRequestOutput]:
        """:meth:`embed` for asyncio."""
        rows = self._inputs(prompts, pooling_params, lora_request)
        return await self._embeddings(rows).acollect(use_tqdm, raise_on_error)

    def score(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str] | None = None,
        *,
        labels: Sequence[str] | None = None,
        label_token_ids: Sequence[int] | None = None,
        truncate_prompt_tokens: int | None = None,
        use_tqdm: UseTqdm = True,
        raise_on_error: bool = False,
    ) -> list[ScoringRequestOutput]:
        """Scores texts, in one of two ways.

        * ``score(queries, documents)``: how probable it is that the document answers the query, asked of the model. One query
          goes with all documents, or each with its own.
        * ``score(prompts, labels=[" yes", " no"])``: how probable each label is as the answer to each prompt. After a prompt
          that ends with a word, begin labels with a space.

        Errors are those of :meth:`generate`.
        """
        rows = self._scored(data_1, data_2, labels, label_token_ids, truncate_prompt_tokens)
        return self._scores(rows).collect(use_tqdm, raise_on_error)

    async def ascore(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str] | None = None,
        *,
        labels: Sequence[str] | None = None,
        label_token_ids: Sequence[int] | None = None,
        truncate_prompt_tokens: int | None = None,
        use_tqdm: UseTqdm = False,
        raise_on_error: bool = False,
    ) -> list[ScoringRequestOutput]:
        """:meth:`score` for asyncio."""
        rows = self._scored(data_1, data_2, labels, label_token_ids, truncate_prompt_tokens)
        return await self._scores(rows).acollect(use_tqdm, raise_on_error)

    # --- Tables and files ---

    def map(
        self,
        table: Any,
        prompt: PromptOf,
        *,
        schema: dict[str, Any] | str | type | None = None,
        sampling_params: SamplingParams | None = None,
        system: str | None = None,
        output_column: str = "output",
        error_column: str = "error",
        resume: str | os.PathLike[str] | None = None,
        window: int | None = None,
        use_tqdm: UseTqdm = True,
    ) -> Any:
        """Asks about each row of a table, and returns the table with the answers in new columns.

        Args:
            table: Of pandas, Polars, Arrow (a ``Table``, or anything with ``__arrow_c_stream__``) or Hugging Face datasets, or a
                list of dicts. The same comes back; its own columns are shared, not copied.
            prompt: What the model is asked about a row: a template with the columns' names in braces, such as
                ``"Is this positive? {review}"``, or a function of the row, a dict, that gives a text or messages.
            schema: What answers must look like: a JSON Schema, or a pydantic model. Its fields become the new columns.
            sampling_params: How answers are chosen; the first of several is taken.
            system: A message of the role ``system`` before each.
            output_column: The new column without a ``schema``, and with one that is no object.
            error_column: What went wrong with a row, as ``code: message``, else ``None``.
            resume: A file for the answers, so that a call that was killed goes on where it was when it is made again.
            window: The most rows under way. By default four times ``max_num_seqs``.
            use_tqdm: Whether to show a bar, or the class of bars to show.

        Raises:
            ValueError: the template names other columns than the table has, or a new column is there already.
            Interrupted: Ctrl-C; its ``partial`` is the table, or with ``resume`` the report.

        Example:
            >>> from vllm_batch.testing import ScriptedLLM
            >>> llm = ScriptedLLM(lambda messages: messages[-1]["content"].upper())
            >>> llm.map([{"word": "hi"}], "Say {word}", use_tqdm=False)
            [{'word': 'hi', 'output': 'SAY HI', 'error': None}]
        """
        job = Map(
            self,
            table,
            prompt,
            schema=schema,
            sampling_params=sampling_params,
            system=system,
            output_column=output_column,
            error_column=error_column,
            window=window,
        )
        return job.run(use_tqdm) if resume is None else job.resume(Path(resume), use_tqdm)

    async def amap(
        self,
        table: Any,
        prompt: PromptOf,
        *,
        schema: dict[str, Any] | str | type | None = None,
        sampling_params: SamplingParams | None = None,
        system: str | None = None,
        output_column: str = "output",
        error_column: str = "error",
        resume: str | os.PathLike[str] | None = None,
        window: int | None = None,
        use_tqdm: UseTqdm = False,
    ) -> Any:
        """:meth:`map` for asyncio."""
        job = Map(
            self,
            table,
            prompt,
            schema=schema,
            sampling_params=sampling_params,
            system=system,
            output_column=output_column,
            error_column=error_column,
            window=window,
        )
        return await (job.arun(use_tqdm) if resume is None else job.aresume(Path(resume), use_tqdm))

    def run_batch(
        self,
        input_file: str | os.PathLike[str],
        output_file: str | os.PathLike[str],
        *,
        use_tqdm: UseTqdm = True,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Any,
    ) -> BatchReport:
        """Answers a batch file; see :func:`vllm_batch.run_batch`, which has the same options."""
        run = batch.Run(input_file, output_file, **options)
        return run.drive(self._native, use_tqdm, on_progress)

    async def arun_batch(
        self,
        input_file: str | os.PathLike[str],
        output_file: str | os.PathLike[str],
        *,
        use_tqdm: UseTqdm = False,
        on_progress: Callable[[Progress], object] | None = None,
        **options: Any,
    ) -> BatchReport:
        """:meth:`run_batch` for asyncio, on a thread of its own. To cancel the task cancels the run; what is done is kept."""
        run = batch.Run(input_file, output_file, **options)
        return await run.adrive(self._native, use_tqdm, on_progress)

    # --- The engine ---

    @property
    def served_model_names(self) -> list[str]:
        """The names that requests may use for the model, the one that answers carry first."""
        return self._native.served_model_names

    @property
    def max_model_len(self) -> int:
        """Context length in tokens, prompt and answer together."""
        return self._native.max_model_len

    @property
    def revision(self) -> str:
        """Identifies weights, tokenizer, template and options: engines with equal revisions give equal answers."""
        return self._native.revision

    @property
    def supported_tasks(self) -> list[str]:
        """What can be asked of the model: ``generate``, ``embed``, ``score``."""
        return self._native.supported_tasks

    def close(self) -> None:
        """Ends the engine's threads and gives its memory back, as ``del`` and the end of ``with`` do.

        Prompts that are under way fail with ``engine_failed``; a batch file that is running ends first.
        """
        self._native.close()

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._native.is_open else ", closed"
        return f"{type(self).__name__}({self.served_model_names[0]!r}, max_model_len={self.max_model_len}{state})"

    # --- From arguments to rows ---

    def _next_id(self) -> str:
        return str(next(self._numbers))

    def _default_window(self) -> int:
        return max(4 * self._native.max_num_seqs, 64)

    def _outputs(self, rows: Iterable[Row], window: int | None = None) -> Completed[RequestOutput]:
        return Completed(self._native, rows, RequestOutput, window)

    def _embeddings(self, rows: Iterable[Row]) -> Completed[EmbeddingRequestOutput]:
        return Completed(self._native, rows, EmbeddingRequestOutput)

    def _scores(self, rows: Iterable[Row]) -> Completed[ScoringRequestOutput]:
        return Completed(self._native, rows, ScoringRequestOutput)

    def _texts(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None,
        lora_request: str | None,
        priority: int | Sequence[int] | None,
    ) -> list[Row]:
        each = _several(prompts)
        tasks = _tasks(sampling_params or SamplingParams(), "sampling_params", len(each))
        priorities = _for_each(0 if priority is None else priority, "priority", len(each))
        return [self._text(*row, lora_request) for row in zip(each, tasks, priorities)]

    def _inputs(
        self,
        prompts: Prompt | Sequence[Prompt],
        pooling_params: PoolingParams | Sequence[PoolingParams] | None,
        lora_request: str | None,
    ) -> list[Row]:
        each = _several(prompts)
        tasks = _tasks(pooling_params or PoolingParams(), "pooling_params", len(each))
        return [self._text(prompt, task, 0, lora_request) for prompt, task in zip(each, tasks)]

    def _text(self, prompt: Prompt, task: Task, priority: int, lora_request: str | None) -> Row:
        content = _content(prompt)
        request_id = self._next_id()
        request = Request(request_id, content, task, priority, lora_request)
        return Row(request_id, request, content if isinstance(content, str) else None)

    def _chats(
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
        return [self._chat(chat, task, options, priority, lora_request) for chat, task, priority in rows]

    def _chat(
        self, conversation: Conversation, task: Task, options: ChatOptions, priority: int, lora_request: str | None
    ) -> Row:
        request_id = self._next_id()
        body = to_json({"messages": list(conversation), **options})
        request = _or_error(Request.chat, request_id, body, task, priority, lora_request)
        return Row(request_id, request, is_chat=True)

    def _scored(
        self,
        data_1: str | Sequence[str],
        data_2: str | Sequence[str] | None,
        labels: Sequence[str] | None,
        label_token_ids: Sequence[int] | None,
        truncate_prompt_tokens: int | None,
    ) -> list[Row]:
        names = (*(labels or ()), *(label_token_ids or ()))
        if data_2 is None:
            task = scoring_task(labels, label_token_ids, truncate_prompt_tokens)
            return [self._text(prompt, task, 0, None)._replace(labels=names) for prompt in _several(data_1)]
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


class LLM(_Engine):
    """A model in this process, with the names of ``vllm.LLM``.

    Args:
        model: A folder as on the Hugging Face hub, a ``.gguf`` file, or a hub id such as ``owner/name``.
        dtype: How weights are kept and multiplied: ``auto``, ``float32``, ``float16``, ``bfloat16``, ``q8_0`` or ``q4_0``.
        max_model_len: Context length in tokens. By default the model's, or what fits ``kv_cache_memory_bytes``.
        max_num_seqs: The most prompts that are worked on at the same time. By default 64.
        max_num_batched_tokens: The most tokens that one step computes. By default 512.
        seed: For prompts that bring no seed of their own.
        kv_cache_dtype: How keys and values are kept: ``auto``, ``float32`` or ``float16``.
        kv_cache_memory_bytes: Memory for keys and values. By default 512 MiB.
        enable_prefix_caching: Whether prompts that begin alike share their keys and values.
        speculative_config: ``{"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2,
            "prompt_lookup_max": 4}``: how tokens are guessed ahead where few prompts run. Answers do not depend on it.
        threads: Threads that compute. By default one for each processor.
        auto_tune: Chooses ``max_num_seqs`` and ``max_num_batched_tokens``, where they are not given, by measuring the machine.
        served_model_name: Names that batch files may use for the model, the first of which answers carry.
        lora_modules: Adapters by name, for ``lora_request``.
        lora_paths: Adapters that are added to the weights when they are loaded.
        tool_call_parser: How the model writes calls: ``hermes``, ``llama3_json`` or ``mistral``. By default as its template says.
        reasoning_parser: How it marks what it says to itself: ``qwen3``, ``deepseek_r1`` or ``mistral``. By default such thoughts
            are part of the text.
        pooling_type: Which hidden states embeddings are made of: ``LAST``, ``MEAN`` or ``CLS``. By default as the model says.
        chat_template_time: What chat templates see through ``strftime_now``. By default the beginning of the day.
        revision: A branch, tag or commit on the hub.
        gguf_file: The file to take of a repository of GGUF files.
        download_dir: The hub's cache folder.
        options: Others of vLLM's. Those that say nothing about answers here, such as ``gpu_memory_utilization``, are accepted;
            those that are not implemented only at values that ask for nothing, such as ``tensor_parallel_size=1``.

    Raises:
        LoadError: the model cannot be loaded, or an option is outside its domain.
        TypeError: an option is unknown, or has a wrong type.

    Example:
        >>> llm = LLM("HuggingFaceTB/SmolLM2-135M-Instruct")             # doctest: +SKIP
        >>> outputs = llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=8))  # doctest: +SKIP
        >>> outputs[0].outputs[0].text                                    # doctest: +SKIP
        ' Paris.'
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        max_num_batched_tokens: int | None = None,
        seed: int | None = 0,
        kv_cache_dtype: str = "auto",
        kv_cache_memory_bytes: int | None = None,
        enable_prefix_caching: bool = True,
        speculative_config: Mapping[str, Any] | None = None,
        threads: int | None = None,
        auto_tune: bool = False,
        served_model_name: str | Sequence[str] | None = None,
        lora_modules: Mapping[str, str | os.PathLike[str]] | None = None,
        lora_paths: Sequence[str | os.PathLike[str]] = (),
        tool_call_parser: str | None = None,
        reasoning_parser: str | None = None,
        pooling_type: str | None = None,
        chat_template_time: datetime.datetime | None = None,
        revision: str | None = None,
        gguf_file: str | None = None,
        download_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        _check_options(options)
        own = {
            "dtype": _DTYPES.get(dtype, dtype),
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "max_num_batched_tokens": max_num_batched_tokens,
            "seed": seed or 0,
            "kv_cache_dtype": kv_cache_dtype,
            "kv_cache_memory_bytes": kv_cache_memory_bytes,
            "enable_prefix_caching": enable_prefix_caching,
            "speculative_config": _speculation(speculative_config),
            "threads": threads,
            "auto_tune": auto_tune,
            "served_model_name": _names(served_model_name),
            "lora_modules": list((lora_modules or {}).items()),
            "lora_paths": list(lora_paths),
            "tool_call_parser": tool_call_parser,
            "reasoning_parser": reasoning_parser,
            "pooling_type": pooling_type,
            "chat_template_time": chat_template_time,
            "revision": revision,
            "gguf_file": gguf_file,
            "download_dir": download_dir,
        }
        super().__init__(Engine.load(os.fspath(model), own))

    def get_tokenizer(self) -> Tokenizer:
        """The model's tokenizer: ``encode``, ``decode``, ``get_vocab`` and a few more of Hugging Face's names."""
        tokenizer = self._native.tokenizer()
        assert tokenizer is not None, "a model in this process has one"
        return tokenizer


class RemoteLLM(_Engine):
    """A model behind a server that speaks OpenAI's HTTP API, with the same methods.

    Args:
        base_url: Where the API begins, such as ``http://localhost:8000/v1``.
        model: The model's name there. By default the server is asked.
        api_key: Sent as a bearer token.
        flavour: What the server takes beyond OpenAI's own: ``openai``, ``vllm`` or ``llama_cpp``.
        max_model_len: Context length, if the server does not say it.
        max_num_seqs: The most requests that are sent at the same time.
        timeout: Seconds for one request. By default 600.
        max_retries: How often a request is sent again that failed for a reason that may pass. By default 5.

    Raises:
        LoadError: the server does not answer, or an option is outside its domain.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        flavour: str = "openai",
        max_model_len: int | None = None,
        max_num_seqs: int | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        own = {
            "model": model,
            "api_key": api_key,
            "flavour": flavour,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "timeout": timeout,
            "max_retries": max_retries,
        }
        super().__init__(Engine.remote(base_url, own))


def _check_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name in _WITHOUT_EFFECT or any(value == neutral for neutral in _NEUTRAL.get(name, ())):
            continue
        if name in _NEUTRAL:
            raise TypeError(f"LLM() takes the option {name!r} only as {', '.join(map(repr, _NEUTRAL[name]))}")
        raise TypeError(f"LLM() got an unknown option {name!r}")


def _speculation(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    given = {"method": "ngram", **config}
    method = given.pop("method")
    unknown = given.keys() - {"num_speculative_tokens", "prompt_lookup_min", "prompt_lookup_max"}
    if method != "ngram" or unknown:
        raise TypeError(f"speculative_config is for the method 'ngram', found {method!r} with {sorted(unknown)}")
    return given


def _names(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])


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


def _tasks(params: Any, name: str, count: int) -> Iterator[Task]:
    """The tasks of parameters; those that are the same are made once."""
    made: dict[int, Task] = {}
    for each in _for_each(params, name, count):
        if id(each) not in made:
            made[id(each)] = each.to_task()
        yield made[id(each)]


def _or_error(make: Callable[..., Request], *arguments: Any) -> Request | RequestError:
    try:
        return make(*arguments)
    except RequestError as error:
        return error.with_traceback(None)


