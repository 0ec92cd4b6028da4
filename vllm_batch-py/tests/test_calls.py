"""Calls of an ``LLM``: errors as rows, order, iteration, asyncio, interrupts, and the life of an engine."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vllm_batch import (
    LLM,
    BaseLLM,
    EngineError,
    FailedRequestsWarning,
    Interrupted,
    LoadError,
    OutputList,
    PoolingParams,
    RequestError,
    RequestOutput,
    SamplingParams,
)
from vllm_batch.testing import ScriptedLLM

WORDS = ["one", "two", "three", "four"]


def texts(outputs: list[RequestOutput]) -> list[str | None]:
    return [output.outputs[0].text if output.error is None else None for output in outputs]


def picky(prompt: Any) -> str:
    """Answers all but one prompt."""
    if prompt == "three":
        raise ValueError("too odd")
    return str(prompt).upper()


def test_outputs_are_in_the_order_of_prompts(echo: ScriptedLLM) -> None:
    outputs = echo.generate(WORDS)
    assert texts(outputs) == WORDS and isinstance(outputs, OutputList)
    first = outputs[0]
    assert (first.prompt, first.finished, first.outputs[0].finish_reason) == ("one", True, "stop")
    assert (first.usage.prompt_tokens, first.usage.completion_tokens, first.usage.total_tokens) == (1, 1, 2)
    assert echo.generate([]) == []


def test_request_ids_go_on_from_call_to_call(echo: ScriptedLLM) -> None:
    ids = [output.request_id for output in echo.generate(WORDS) + echo.generate(WORDS)]
    assert ids == [str(number) for number in range(8)]


def test_errors_are_rows_with_one_warning() -> None:
    llm = ScriptedLLM(picky)
    with pytest.warns(FailedRequestsWarning, match="1 of 4 prompts failed.*too odd"):
        outputs = llm.generate(WORDS)
    assert texts(outputs) == ["ONE", "TWO", None, "FOUR"]
    error = outputs[2].error
    assert isinstance(error, ValueError) and (error.code, error.param, error.status_code) == ("invalid_value", "prompt", 400)
    assert not error.is_retryable and outputs[2].outputs == []


def test_errors_are_raised_where_asked_for() -> None:
    llm = ScriptedLLM(picky)
    with pytest.raises(RequestError, match="too odd") as raised:
        llm.generate(WORDS, raise_on_error=True)
    assert raised.value.index == 2
    with pytest.raises(RequestError, match="too odd"):
        asyncio.run(llm.agenerate(WORDS, raise_on_error=True))
    assert llm.stats.running == 0


def test_a_wrong_conversation_fails_alone(echo: ScriptedLLM) -> None:
    good = [{"role": "user", "content": "Hi"}]
    outputs = echo.chat([good, [{"role": "robot", "content": "Hi"}], good])
    assert texts(outputs) == ["Hi", None, "Hi"]
    assert outputs[1].error is not None and outputs[1].error.param == "messages[0].role"


def test_text_parts_are_read_as_one(echo: ScriptedLLM) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert texts(echo.chat([{"role": "user", "content": parts}])) == ["a\nb"]


@pytest.mark.parametrize("prompt", [None, 1.5, [None], ["a", 3], {"promt": "a"}, [[1, "a"]]])
def test_what_is_no_prompt_is_a_type_error(echo: ScriptedLLM, prompt: Any) -> None:
    with pytest.raises(TypeError):
        echo.generate(prompt)
    assert echo.stats.submitted == 0


def test_embeddings_and_scores_of_a_script() -> None:
    llm = ScriptedLLM(lambda prompt: " yes")
    assert len(llm.embed("a b", pooling_params=PoolingParams(dimensions=4))[0].outputs.embedding) == 4
    score = llm.score(["a", "b"], labels=[" no", " yes"])[1].outputs
    assert (score.label, score.score, [label.label for label in score.labels]) == (" yes", 0.0, [" no", " yes"])
    failed = ScriptedLLM(picky).embed("three")[0]
    assert failed.error is not None and failed.outputs.embedding == []
    with pytest.raises(RequestError, match="labels"):
        llm.score("a", "b", labels=["x"])


# Iteration


def test_prompts_are_taken_as_they_are_needed(echo: ScriptedLLM) -> None:
    taken = itertools.count()
    endless = (f"word {next(taken)}" for _ in itertools.count())
    outputs = itertools.islice(echo.iter_generate(endless, window=4), 10)
    found = {index: output.outputs[0].text for index, output in outputs}
    assert found == {index: f"word {index}" for index in found} and len(found) == 10
    assert next(taken) <= 14 and echo.stats.running == 0


@pytest.mark.parametrize("window", [1, 3, 100])
def test_iteration_yields_each_prompt_once(echo: ScriptedLLM, window: int) -> None:
    prompts = [f"word {number}" for number in range(50)]
    found = dict(echo.iter_generate(prompts, window=window))
    assert [found[index].outputs[0].text for index in range(50)] == prompts
    conversations = ([{"role": "user", "content": prompt}] for prompt in prompts)
    assert {index: output.outputs[0].text for index, output in echo.iter_chat(conversations)} == dict(enumerate(prompts))


def test_asynchronous_iteration(echo: ScriptedLLM) -> None:
    async def run() -> dict[int, str]:
        return {index: output.outputs[0].text async for index, output in echo.iter_generate(iter(WORDS), window=2)}

    assert asyncio.run(run()) == dict(enumerate(WORDS))


# asyncio


def test_coroutines_share_an_engine(echo: ScriptedLLM) -> None:
    async def run() -> list[Any]:
        chats = echo.achat([{"role": "user", "content": "Hi"}])
        return await asyncio.gather(*(echo.agenerate(word) for word in WORDS), chats)

    assert [texts(outputs)[0] for outputs in asyncio.run(run())] == [*WORDS, "Hi"]
    assert len(asyncio.run(echo.aembed(WORDS))) == 4
    assert len(asyncio.run(echo.ascore(WORDS, labels=["a"]))) == 4


def test_the_loop_runs_while_answers_are_awaited() -> None:
    llm = ScriptedLLM(held=True)

    async def run() -> list[RequestOutput]:
        call = asyncio.create_task(llm.agenerate(WORDS))
        while llm.stats.running < 4:
            await asyncio.sleep(0)
        llm.release()
        return await call

    assert texts(asyncio.run(run())) == WORDS


def test_a_cancelled_task_lets_its_prompts_go() -> None:
    llm = ScriptedLLM(held=True)

    async def run() -> None:
        call = asyncio.create_task(llm.agenerate(WORDS))
        while llm.stats.running < 4:
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(run())
    assert (llm.stats.aborted, llm.stats.running) == (4, 0)
    llm.release()
    assert texts(llm.generate(WORDS)) == WORDS


def test_a_loop_that_was_closed_is_not_called() -> None:
    llm = ScriptedLLM(held=True)

    async def leave() -> None:
        asyncio.create_task(llm.agenerate(WORDS))
        while llm.stats.running < 4:
            await asyncio.sleep(0)

    asyncio.run(leave())
    llm.release()
    assert texts(llm.generate("x")) == ["x"]


# Interrupts


def test_an_interrupt_keeps_what_is_done(interrupt_when: Callable[[Callable[[], bool]], None]) -> None:
    llm = ScriptedLLM(held=True)
    llm.release(2)
    interrupt_when(lambda: llm.stats.finished == 2)
    with pytest.raises(Interrupted, match="2 of 4 prompts are done") as raised:
        llm.generate(WORDS)
    partial = raised.value.partial
    assert texts(partial) == ["one", "two", None, None] and isinstance(partial, OutputList)
    assert [output.error and output.error.code for output in partial[2:]] == ["request_aborted"] * 2
    assert (llm.stats.aborted, llm.stats.running) == (2, 0)
    llm.release()
    assert texts(llm.generate(WORDS)) == WORDS


def test_an_interrupt_at_any_instruction_loses_no_output(echo: ScriptedLLM) -> None:
    class Interrupting:
        """A bar that interrupts at one of its updates."""

        def __init__(self, at: int) -> None:
            self.left = at

        def __call__(self, **options: Any) -> Interrupting:
            return self

        def set_postfix_str(self, text: str, refresh: bool) -> None: ...

        def close(self) -> None: ...

        def update(self) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    for at in range(1, 5):
        with pytest.raises(Interrupted) as raised:
            echo.generate(WORDS, use_tqdm=Interrupting(at))
        # The engine had answered all: none is lost between it and the bar.
        assert texts(raised.value.partial) == WORDS


# The life of an engine


def test_a_closed_engine_says_so(echo: ScriptedLLM) -> None:
    assert repr(echo) == "ScriptedLLM('scripted', max_model_len=4096)"
    with echo as same:
        assert same is echo
    for call in (lambda: echo.generate("x"), lambda: echo.embed("x"), lambda: next(iter(echo.iter_generate(["x"])))):
        with pytest.raises(EngineError, match="closed") as raised:
            call()
        assert raised.value.code == "engine_closed"
    echo.close()
    assert repr(echo).endswith("closed)")


def test_prompts_of_an_engine_that_closes_fail(demo_model: Path) -> None:
    llm = LLM(demo_model, max_model_len=256)

    class Closing:
        """A bar that closes the engine as soon as one prompt is done."""

        def __init__(self, **options: Any) -> None: ...

        def set_postfix_str(self, text: str, refresh: bool) -> None: ...

        def close(self) -> None: ...

        def update(self) -> None:
            llm.close()

    params = [SamplingParams(max_tokens=count, ignore_eos=True) for count in (1, 200)]
    outputs = llm.generate(["Hello", "Once upon a time"], params, use_tqdm=Closing)
    assert [output.error and output.error.code for output in outputs] == [None, "engine_failed"]


def test_a_forked_process_is_told_and_does_not_hang(demo: LLM) -> None:
    assert len(demo.generate("Hello", SamplingParams(max_tokens=2))) == 1
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            demo.generate("Hello")
        except EngineError as error:
            demo.close()
            os.write(writer, error.code.encode())
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 100) == b"engine_forked"
    assert os.waitpid(child, 0)[1] == 0
    assert len(demo.generate("Hello", SamplingParams(max_tokens=2))) == 1


def test_threads_share_an_engine(demo: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=8)
    expected = [demo.generate(word, params)[0].outputs[0].text for word in WORDS]
    found: dict[int, str] = {}

    def run(index: int) -> None:
        found[index] = demo.generate(WORDS[index], params, use_tqdm=False)[0].outputs[0].text

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(4)] == expected


def num_threads() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("kind", ["scripted", "tiny"])
def test_a_thousand_engines_leave_nothing_behind(kind: str, tiny_model: Path, resident: Callable[[], int]) -> None:
    def engine() -> BaseLLM:
        return ScriptedLLM() if kind == "scripted" else LLM(tiny_model, max_model_len=64, kv_cache_memory_bytes=1 << 20)

    params = SamplingParams(max_tokens=2)

    def cycle() -> None:
        with engine() as llm:
            llm.generate(WORDS, params, use_tqdm=False)
            asyncio.run(llm.agenerate(WORDS, params))

    for _ in range(200):
        cycle()
    gc.collect()
    before, threads = resident(), num_threads()
    for _ in range(1000):
        cycle()
    gc.collect()
    assert resident() - before < 8 << 20
    # Those that were told to end may not have, yet.
    assert num_threads() <= threads + 8


CYCLES = """
import os, sys, weakref
from pathlib import Path
from vllm_batch import LLM, SamplingParams

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

for _ in range(4):
    llm = LLM(sys.argv[1], max_model_len=512)
    llm.generate("Hello", SamplingParams(max_tokens=2), use_tqdm=False)
    loaded, seen = resident(), weakref.ref(llm)
    del llm
    assert seen() is None
    print(loaded, resident())
"""


def test_an_engine_gives_its_memory_back(demo_model: Path) -> None:
    # glibc learns to keep what is freed; here it does not, so that what is left is what was not freed.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}
    program = [sys.executable, "-c", CYCLES, str(demo_model)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
    cycles = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    for loaded, left in cycles:
        assert loaded - left > 64 << 20
    assert cycles[-1][1] - cycles[0][1] < 48 << 20


# Parameters and options


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": "two"}, "n"),
        ({"n": -1}, "n"),
        ({"n": 2, "temperature": 0}, "n"),
        ({"best_of": 0}, "best_of"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop"),
        ({"logprobs": -2}, "logprobs"),
        ({"logprobs": 1.5}, "logprobs"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a"),
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"detokenize": False}, "detokenize"),
        ({"extra_args": {"a": 1}}, "extra_args"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    ],
)
def test_wrong_parameters_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as raised:
        SamplingParams(**fields)
    assert raised.value.param == param and param.split(".")[0] in str(raised.value)


def test_parameters_are_values() -> None:
    params = SamplingParams(stop="x", seed=-1, logit_bias={5: 1.5}, logits_processors=[])
    assert (params.stop, params.seed, params.max_tokens) == (["x"], None, None)
    for other in (params.clone(), copy.copy(params), pickle.loads(pickle.dumps(params))):
        assert other == params and other is not params
    params.temperature = -1
    with pytest.raises(RequestError, match="temperature"):
        ScriptedLLM().generate("x", params)


def test_errors_and_outputs_can_be_pickled(echo: ScriptedLLM) -> None:
    outputs = echo.generate(["x", ""])
    again = pickle.loads(pickle.dumps(outputs))
    assert again[0] == outputs[0]
    assert (str(again[1].error), again[1].error.code) == (str(outputs[1].error), "empty_prompt")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"max_model_len": 1}, LoadError, "max_model_len"),
        ({"dtype": "int3"}, LoadError, "dtype"),
        ({"kv_cache_dtype": "fp8"}, LoadError, "kv_cache_dtype"),
        ({"reasoning_parser": "nobody"}, LoadError, "reasoning_parser"),
        ({"pooling_type": "SUM"}, LoadError, "pooling_type"),
        ({"speculative_config": {"num_speculative_tokens": 0}}, LoadError, "num_speculative_tokens"),
        ({"speculative_config": {"method": "eagle"}}, TypeError, "eagle"),
        ({"max_num_seqs": "many"}, TypeError, "max_num_seqs"),
        ({"tensor_parallel_size": 2}, TypeError, "tensor_parallel_size"),
        ({"max_model_length": 20}, TypeError, "max_model_length"),
    ],
)
def test_wrong_options_are_named(demo_model: Path, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        LLM(demo_model, **options)


def test_options_of_vllms_that_say_nothing_here(demo_model: Path) -> None:
    options: dict[str, Any] = {"gpu_memory_utilization": 0.5, "tensor_parallel_size": 1, "enforce_eager": True, "dtype": "auto"}
    with LLM(demo_model, seed=0, trust_remote_code=True, **options) as llm:
        assert "SmolLM2" in llm.served_model_names[0] and llm.supported_tasks == ["generate", "embed", "score"]


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(LoadError) as raised:
        LLM("./no/such/model.gguf")
    assert raised.value.code == "model_unreadable"


def test_the_tokenizer(demo: LLM) -> None:
    tokenizer = demo.get_tokenizer()
    ids = tokenizer.encode("Hello, world")
    assert tokenizer.decode(ids) == "Hello, world" and len(tokenizer) == tokenizer.vocab_size == 49152
    assert tokenizer.get_vocab()["<|im_end|>"] == tokenizer.convert_tokens_to_ids("<|im_end|>") == 2
    assert tokenizer.convert_ids_to_tokens(2) == "<|im_end|>" and tokenizer.convert_ids_to_tokens(1 << 20) is None


def test_html_is_escaped_and_cut(echo: ScriptedLLM) -> None:
    html = echo.generate(["<b>", "", *["x"] * 30])._repr_html_()  # type: ignore[attr-defined]
    assert "&lt;b&gt;" in html and "<td><b></td>" not in html and "and 12 more" in html and "empty_prompt" in html
    assert "EmbeddingOutput(hidden_size=8)" in echo.embed("x")[0]._repr_html_()
