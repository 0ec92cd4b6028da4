"""What every ``LLM`` can do, with the names of ``vllm.LLM``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from . import batch
from ._native import Engine
from .outputs import (
    BatchReport,
    EmbeddingRequestOutput,
    Progress,
    RequestOutput,
    ScoringRequestOutput,
)
from .params import PoolingParams, SamplingParams
from .progress import UseTqdm
from .rows import Asked, ChatOptions, Conversation, Prompt, Rows
from .tables import Map, PromptOf
from .work import Completed, Row

__all__ = ["BaseLLM"]

_T = TypeVar("_T", bound="BaseLLM")


class BaseLLM:
    """What can be done with a model, wherever it is: see :class:`LLM`, :class:`RemoteLLM` and ``testing.ScriptedLLM``."""

    _native: Engine

    def __init__(self, native: Engine) -> None:
        self._native = native
        self._rows = Rows()

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
        rows = self._rows.texts(prompts, sampling_params, lora_request, priority)
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
        rows = self._rows.texts(prompts, sampling_params, lora_request, priority)
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
            under way; by default four times ``max_num_seqs``, at least 64.
        """
        asked = Asked.by(sampling_params or SamplingParams())
        rows = (self._rows.text(prompt, asked, 0, lora_request) for prompt in prompts)
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
        rows = self._rows.chats(messages, sampling_params, options, lora_request, priority)
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
        rows = self._rows.chats(messages, sampling_params, options or {}, lora_request, priority)
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
        asked = Asked.by(sampling_params or SamplingParams())
        rows = (self._rows.chat(conversation, asked, options or {}, 0, lora_request) for conversation in messages)
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
        rows = self._rows.inputs(prompts, pooling_params, lora_request)
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
        rows = self._rows.inputs(prompts, pooling_params, lora_request)
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
        rows = self._rows.scored(data_1, data_2, labels, label_token_ids, truncate_prompt_tokens)
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
        rows = self._rows.scored(data_1, data_2, labels, label_token_ids, truncate_prompt_tokens)
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
        seed_from: PromptOf | None = None,
        output_column: str = "output",
        error_column: str = "error",
        resume: str | os.PathLike[str] | None = None,
        window: int | None = None,
        use_tqdm: UseTqdm = True,
    ) -> Any:
        """Asks about each row of a table, and returns the table with the answers in new columns.

        Args:
            table: Of pandas, Polars, Arrow (a ``Table``, or anything with ``__arrow_c_stream__``) or Hugging Face datasets, a
                list of dicts, or a dict of columns. The same comes back; its own columns are shared, not copied.
            prompt: What the model is asked about a row: a template with the columns' names in braces, such as
                ``"Is this positive? {review}"``, or a function of the row, a dict, that gives a text or messages.
            schema: What answers must look like: a JSON Schema, or a pydantic model. Its fields become the new columns.
            sampling_params: How answers are chosen; the first of several is taken.
            system: A message of the role ``system`` before each.
            seed_from: What the random numbers of a row follow from, with the ``seed`` of ``sampling_params``: a template or a
                function as ``prompt`` is one, such as ``"{id}"``. With it, a row has the same answer in any other table, process
                or order. By default its place in the table; with a ``seed`` alone nothing, so that equal rows get equal answers.
            output_column: The new column without a ``schema``, and with one that is no object.
            error_column: What went wrong with a row, as ``code: message``, else ``None``.
            resume: A file for the answers, so that a call that was killed goes on where it was when it is made again.
            window: The most rows under way. By default four times ``max_num_seqs``, at least 64.
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
            seed_from=seed_from,
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
        seed_from: PromptOf | None = None,
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
            seed_from=seed_from,
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

    def _default_window(self) -> int:
        return max(4 * self._native.max_num_seqs, 64)

    def _outputs(self, rows: Iterable[Row], window: int | None = None) -> Completed[RequestOutput]:
        return Completed(self._native, rows, RequestOutput, window)

    def _embeddings(self, rows: Iterable[Row]) -> Completed[EmbeddingRequestOutput]:
        return Completed(self._native, rows, EmbeddingRequestOutput)

    def _scores(self, rows: Iterable[Row]) -> Completed[ScoringRequestOutput]:
        return Completed(self._native, rows, ScoringRequestOutput)
