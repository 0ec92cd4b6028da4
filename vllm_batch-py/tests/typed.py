"""How a typed program uses the package: read by pyright and mypy, not run."""

from __future__ import annotations

from typing_extensions import assert_type

from vllm_batch import (
    LLM,
    BatchReport,
    EmbeddingRequestOutput,
    Prompt,
    RequestError,
    RequestOutput,
    SamplingParams,
    ScoringRequestOutput,
    Tokenizer,
    run_batch,
)
from vllm_batch.curate import Curated, Record, SchemaRegistry, TaskSchema, acurate, curate
from vllm_batch.testing import ScriptedLLM


def calls(llm: LLM) -> None:
    prompts: list[Prompt] = ["a", [1, 2], {"prompt": "b"}, {"prompt_token_ids": [3]}]
    outputs = llm.generate(prompts, SamplingParams(n=2))
    assert_type(outputs, list[RequestOutput])
    assert_type(outputs[0].outputs[0].text, str)
    assert_type(outputs[0].error, RequestError | None)
    assert_type(llm.chat([{"role": "user", "content": "Hi"}]), list[RequestOutput])
    assert_type(llm.embed("a")[0], EmbeddingRequestOutput)
    assert_type(llm.score("a", "b")[0], ScoringRequestOutput)
    assert_type(llm.get_tokenizer(), Tokenizer)
    assert_type(run_batch("in.jsonl", "out.jsonl", model=llm), BatchReport)
    for index, output in llm.iter_generate(["a"]):
        assert_type(index, int)
        assert_type(output, RequestOutput)


async def awaits(llm: ScriptedLLM) -> None:
    assert_type(await llm.agenerate("a"), list[RequestOutput])
    async for _, output in llm.iter_chat([[{"role": "user", "content": "Hi"}]]):
        assert_type(output, RequestOutput)
    with ScriptedLLM() as same:
        assert_type(same, ScriptedLLM)


async def curates(llm: LLM) -> None:
    assert_type(SchemaRegistry.builtin().get("cv_parsing"), TaskSchema | None)
    schema = TaskSchema.from_file("mail.json")
    curated = curate(llm, schema, [{"id": "a", "fields": {"body": "Hi"}}])
    assert_type(curated.records, list[Record])
    assert_type(curated, Curated)
    assert_type(await acurate(llm, schema, curated.records), Curated)
    assert_type(curated.records[0]["suggestions"][0]["agent"]["name"], str)
