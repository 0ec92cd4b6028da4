"""``LLM``: a model in this process, and ``RemoteLLM``: a model behind a server."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ._native import Engine, Tokenizer
from .base import BaseLLM

__all__ = ["LLM", "RemoteLLM"]

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


_GUESSES: Mapping[str, Any] = {}
"""Tokens are guessed ahead as the library does by default."""


class LLM(BaseLLM):
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
            "prompt_lookup_max": 4}``: how tokens are guessed ahead where few prompts run. By default 7
            tokens after matches of 3 to 5; ``None`` for no guesses. Answers do not depend on it.
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
        speculative_config: Mapping[str, Any] | None = _GUESSES,
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


class RemoteLLM(BaseLLM):
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
    given = {"method": "ngram", "num_speculative_tokens": None, **config}
    method = given.pop("method")
    unknown = given.keys() - {"num_speculative_tokens", "prompt_lookup_min", "prompt_lookup_max"}
    if method != "ngram" or unknown:
        raise TypeError(f"speculative_config is for the method 'ngram', found {method!r} with {sorted(unknown)}")
    return given


def _names(names: str | Sequence[str] | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or [])
