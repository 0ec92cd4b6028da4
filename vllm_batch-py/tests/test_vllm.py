"""What vLLM's own tests of ``LLM`` ask for (tests/entrypoints/llm), on the demo model."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from vllm_batch import LLM, PoolingParams, RequestError, RequestOutput, SamplingParams
from vllm_batch.sampling_params import StructuredOutputsParams

PROMPTS = [
    "Hello, my name is",
    "The president of the United States is",
    "The capital of France is",
    "The future of AI is",
]
TOKEN_IDS = [[0], [0, 1], [0, 2, 1], [0, 3, 1, 2]]
SHORT = SamplingParams(max_tokens=4)
SYSTEM = {"role": "system", "content": "You are a helpful assistant"}


def chat(text: str) -> list[dict[str, str]]:
    return [SYSTEM, {"role": "user", "content": text}]


# test_generate.py


def test_multiple_sampling_params(demo: LLM) -> None:
    params = [SamplingParams(temperature=t, top_p=0.95, max_tokens=4) for t in (0.01, 0.3, 0.7, 0.99)]
    assert len(demo.generate(PROMPTS, sampling_params=params)) == len(PROMPTS)
    with pytest.raises(ValueError, match="4 prompts and 3 values") as raised:
        demo.generate(PROMPTS, sampling_params=params[:3])
    assert isinstance(raised.value, RequestError) and raised.value.param == "sampling_params"
    assert len(demo.generate(PROMPTS, sampling_params=params[1])) == len(PROMPTS)


def test_default_params_go_to_the_context_limit(demo_model: Path) -> None:
    with LLM(demo_model, max_model_len=24) as llm:
        outputs = llm.generate(PROMPTS, sampling_params=None)
    for output in outputs:
        assert output.prompt_token_ids is not None
        tokens = len(output.prompt_token_ids) + len(output.outputs[0].token_ids)
        assert tokens == 24 if output.outputs[0].finish_reason == "length" else tokens < 24


@pytest.mark.parametrize("priority", [None, [0] * 4, 1])
def test_multiple_priority(demo: LLM, priority: int | list[int] | None) -> None:
    assert len(demo.generate(PROMPTS, SHORT, priority=priority)) == len(PROMPTS)


@pytest.mark.parametrize("priority", [[0] * 3, []])
def test_priorities_that_do_not_match(demo: LLM, priority: list[int]) -> None:
    with pytest.raises(ValueError, match="priority"):
        demo.generate(PROMPTS, SHORT, priority=priority)


@pytest.mark.parametrize("priority", [[0], 1])
def test_single_prompt_priority(demo: LLM, priority: int | list[int]) -> None:
    assert len(demo.generate(PROMPTS[0], SHORT, priority=priority)) == 1


def test_max_model_len(demo_model: Path) -> None:
    with LLM(demo_model, max_model_len=20) as llm:
        for output in llm.generate(PROMPTS, SamplingParams(max_tokens=30)):
            assert output.prompt_token_ids is not None
            assert len(output.prompt_token_ids) + len(output.outputs[0].token_ids) <= 20


def test_log_stats(demo_model: Path) -> None:
    with LLM(demo_model, max_model_len=64, disable_log_stats=False) as llm:
        assert all(output.metrics.prompt_tokens > 0 for output in llm.generate(PROMPTS, SHORT))


# test_encode.py and older versions of test_generate.py: how prompts are given


@pytest.mark.parametrize("ids", TOKEN_IDS)
def test_single_prompt_tokens(demo: LLM, ids: list[int]) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=4)
    bare, wrapped = demo.generate(ids, greedy), demo.generate({"prompt_token_ids": ids}, greedy)
    assert [output.outputs for output in bare] == [output.outputs for output in wrapped]
    assert bare[0].prompt_token_ids == ids and bare[0].prompt is None


def test_multi_prompt_tokens(demo: LLM) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=4)
    bare = demo.generate(TOKEN_IDS, greedy)
    wrapped = demo.generate([{"prompt_token_ids": ids} for ids in TOKEN_IDS], greedy)
    assert [output.outputs for output in bare] == [output.outputs for output in wrapped]


@pytest.mark.parametrize("count", [1, 4])
def test_embeddings_of_tokens(demo: LLM, count: int) -> None:
    ids = [[1000 + id for id in row] for row in TOKEN_IDS[:count]]
    bare, wrapped = demo.embed(ids), demo.embed([{"prompt_token_ids": row} for row in ids])
    assert [output.outputs for output in bare] == [output.outputs for output in wrapped]
    assert [output.prompt_token_ids for output in bare] == ids


def test_multiple_pooling_params(demo: LLM) -> None:
    params = [PoolingParams(dimensions=size) for size in (8, 16, 32, 64)]
    assert [len(output.outputs.embedding) for output in demo.embed(PROMPTS, pooling_params=params)] == [8, 16, 32, 64]
    with pytest.raises(ValueError, match="4 prompts and 3 values"):
        demo.embed(PROMPTS, pooling_params=params[:3])
    assert [len(output.outputs.embedding) for output in demo.embed(PROMPTS, pooling_params=params[0])] == [8] * 4


def test_texts_may_be_wrapped(demo: LLM) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=4)
    bare, wrapped = demo.generate(PROMPTS, greedy), demo.generate([{"prompt": text} for text in PROMPTS], greedy)
    assert [output.outputs for output in bare] == [output.outputs for output in wrapped]
    assert [output.prompt for output in bare] == PROMPTS


# test_generate_multiple_loras.py


def test_prompts_with_adapters(tiny_model: Path, tiny_adapter: Path) -> None:
    greedy = SamplingParams(temperature=0, max_tokens=8)
    modules = {"one": tiny_adapter, "two": tiny_adapter}
    with LLM(tiny_model, lora_modules=modules, max_model_len=64, kv_cache_memory_bytes=1 << 20) as llm:
        plain, one, two = (llm.generate(TOKEN_IDS, greedy, lora_request=name) for name in (None, "one", "two"))
        unknown = llm.generate(TOKEN_IDS[0], greedy, lora_request="three")[0]
    assert [output.outputs for output in one] == [output.outputs for output in two]
    assert [output.outputs for output in one] != [output.outputs for output in plain]
    assert unknown.error is not None and unknown.error.code == "model_not_found"


# test_chat.py


def test_chat(demo: LLM) -> None:
    outputs = demo.chat(chat("Explain the concept of entropy."), SHORT)
    assert len(outputs) == 1
    assert outputs[0].prompt is not None and "concept of entropy" in outputs[0].prompt
    assert outputs[0].prompt.endswith("<|im_start|>assistant\n")


def test_multi_chat(demo: LLM) -> None:
    outputs = demo.chat([chat("Explain the concept of entropy."), chat("Explain what among us is.")], SHORT)
    assert len(outputs) == 2


def test_chat_tokenization_adds_no_special_tokens(demo: LLM) -> None:
    output = demo.chat(chat("Hello!"), SHORT)[0]
    assert output.prompt is not None and output.prompt_token_ids is not None
    tokenizer = demo.get_tokenizer()
    assert output.prompt_token_ids == tokenizer.encode(output.prompt, add_special_tokens=False)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    assert output.prompt_token_ids[0] == start != output.prompt_token_ids[1]


def test_chat_template_and_its_variables(demo: LLM) -> None:
    template = "{% if shout %}!{% endif %}{{ messages[-1].content }}"
    outputs = demo.chat(chat("Hello"), SHORT, chat_template=template, chat_template_kwargs={"shout": True})
    assert outputs[0].prompt == "!Hello"


def test_chat_goes_on_with_the_final_message(demo: LLM) -> None:
    conversation = [*chat("Name a colour."), {"role": "assistant", "content": "My favourite colour is"}]
    output = demo.chat(conversation, SHORT, add_generation_prompt=False, continue_final_message=True)[0]
    assert output.prompt is not None and output.prompt.endswith("My favourite colour is")


def test_tools(demo: LLM) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}}}
    tools = [{"type": "function", "function": function}]
    params = SamplingParams(temperature=0, max_tokens=64)
    output = demo.chat(chat("Is it warm in Rome?"), params, tools=tools, tool_choice="required")[0]
    call = output.outputs[0].tool_calls[0]["function"]
    assert call["name"] == "get_weather" and json.loads(call["arguments"]).get("city", "Rome") in ("Rome", "Oslo")
    assert output.outputs[0].finish_reason == "tool_calls"


# test_prompt_validation.py


def test_empty_prompt(demo: LLM) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        demo.generate([""], raise_on_error=True)
    outputs = demo.generate(["", "Hello"], SHORT)
    assert [output.error and output.error.code for output in outputs] == ["empty_prompt", None]


def test_out_of_vocab_token(demo: LLM) -> None:
    with pytest.raises(ValueError, match="outside the vocabulary"):
        demo.generate({"prompt_token_ids": [999999]}, raise_on_error=True)


def test_a_prompt_that_is_too_long_fails_alone(demo: LLM) -> None:
    outputs = demo.generate(["Hello", "word " * 600], SHORT)
    assert outputs[0].error is None
    assert outputs[1].error is not None and outputs[1].error.code == "context_length_exceeded"
    assert outputs[1].outputs == [] and outputs[1].prompt == "word " * 600


# test_prompt_logprobs.py


def test_prompt_logprobs_of_a_long_prompt(demo_model: Path) -> None:
    params = SamplingParams(top_p=0.9, top_k=50, temperature=0.8, prompt_logprobs=10, max_tokens=1)
    with LLM(demo_model, max_model_len=1100) as llm:
        output = llm.generate(list(range(1024)), params)[0]
    assert output.prompt_logprobs is not None and len(output.prompt_logprobs) == 1024


def test_prompt_logprobs(demo: LLM) -> None:
    params = SamplingParams(top_p=0.9, top_k=50, temperature=0.8, prompt_logprobs=10, max_tokens=1)
    output = demo.generate(list(range(256)), params)[0]
    assert output.prompt_logprobs is not None and output.prompt_token_ids is not None
    assert output.prompt_logprobs[0] is None
    for token_id, place in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:]):
        assert place is not None and next(iter(place)) == token_id and len(place) in (10, 11)


@pytest.mark.parametrize("num_top", [0, 3])
def test_logprobs(demo: LLM, num_top: int) -> None:
    output = demo.generate(PROMPTS[2], SamplingParams(temperature=0, max_tokens=5, logprobs=num_top))[0].outputs[0]
    assert output.logprobs is not None and len(output.logprobs) == len(output.token_ids)
    for token_id, place in zip(output.token_ids, output.logprobs):
        assert next(iter(place)) == token_id and place[token_id].rank == 1 and len(place) == max(num_top, 1)
    total = sum(place[token_id].logprob for token_id, place in zip(output.token_ids, output.logprobs))
    assert output.cumulative_logprob is not None and math.isclose(output.cumulative_logprob, total, rel_tol=1e-6)
    assert "".join(place[token_id].decoded_token or "" for token_id, place in zip(output.token_ids, output.logprobs)) == output.text


def test_all_logprobs(demo: LLM) -> None:
    output = demo.generate(PROMPTS[2], SamplingParams(temperature=0, max_tokens=1, logprobs=-1))[0].outputs[0]
    assert output.logprobs is not None and len(output.logprobs[0]) == demo.get_tokenizer().vocab_size


# structured_output/test_structured_output.py

EMPLOYEE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "skills": {"type": "array", "items": {"type": "string", "maxLength": 10}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "skills"],
    "additionalProperties": False,
}
SQL = """start: "SELECT " column " FROM " table
column: "col_1" | "col_2"
table: "table_1" | "table_2"
"""
IPV4 = r"((25[0-5]|(2[0-4]|1\d|[1-9]|)\d)\.){3}(25[0-5]|(2[0-4]|1\d|[1-9]|)\d)"


def structured(demo: LLM, n: int = 1, **formats: object) -> list[RequestOutput]:
    params = SamplingParams(n=n, max_tokens=200, structured_outputs=StructuredOutputsParams(**formats))  # type: ignore[arg-type]
    return demo.generate(["Write as I say: "] * 2, params, raise_on_error=True)


@pytest.mark.parametrize("schema", [EMPLOYEE, json.dumps(EMPLOYEE)], ids=["dict", "text"])
def test_json_schema(demo: LLM, schema: object) -> None:
    for output in structured(demo, json=schema):
        text = output.outputs[0].text
        assert "\n" not in text and json.loads(text).keys() == EMPLOYEE["properties"].keys()  # type: ignore[attr-defined]


def test_json_of_a_pydantic_model(demo: LLM) -> None:
    class Car:
        @staticmethod
        def model_json_schema() -> dict[str, object]:
            kind = {"enum": ["sedan", "SUV"]}
            return {"type": "object", "properties": {"kind": kind}, "required": ["kind"], "additionalProperties": False}

    for output in structured(demo, json=Car):
        assert json.loads(output.outputs[0].text)["kind"] in ("sedan", "SUV")


def test_any_json_object(demo: LLM) -> None:
    params = SamplingParams(n=2, max_tokens=400, structured_outputs=StructuredOutputsParams(json_object=True))
    shape = demo.generate('{"name": "John Smith", "age": 31} is a short JSON object. Another short one:', params)[0]
    texts = [answer.text for answer in shape.outputs if answer.finish_reason == "stop"]
    assert len(shape.outputs) == 2 and all(isinstance(json.loads(text), dict) for text in texts)
    assert all(answer.text.startswith("{") for answer in shape.outputs)


MULTIPLES = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 10, "maxLength": 20}, "maxItems": 2},
        "description": {"type": "string", "minLength": 50, "maxLength": 50},
    },
    "required": ["score", "tags", "description"],
    "additionalProperties": False,
}


def test_a_schema_that_other_libraries_refuse(demo: LLM) -> None:
    # Twice with the same parameters: a call leaves them as they were.
    params = SamplingParams(max_tokens=200, structured_outputs=StructuredOutputsParams(json=MULTIPLES))
    for output in demo.generate(PROMPTS[:2], params, raise_on_error=True) + demo.generate(PROMPTS[:2], params):
        answer = json.loads(output.outputs[0].text)
        assert answer["score"] % 5 == 0 and all(10 <= len(tag) <= 20 for tag in answer["tags"])
        assert len(answer["description"]) == 50


def test_no_additional_properties(demo: LLM) -> None:
    properties = {name: {"type": "string", "maxLength": 8} for name in ("a1", "a2", "a3")}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    formats = StructuredOutputsParams(json=schema, disable_any_whitespace=True, disable_additional_properties=True)
    params = SamplingParams(temperature=0, max_tokens=200, structured_outputs=formats)
    output = demo.chat(chat("Write a large JSON object: a1=b1, a2=b2, ..., a20=b20."), params, raise_on_error=True)[0]
    assert json.loads(output.outputs[0].text).keys() == properties.keys()


def test_several_answers(demo: LLM) -> None:
    for output in structured(demo, n=2, choice=["Python", "Rust", "Haskell"]):
        assert [answer.index for answer in output.outputs] == [0, 1]
        assert all(answer.text in ("Python", "Rust", "Haskell") for answer in output.outputs)


def test_regex_and_grammar(demo: LLM) -> None:
    for output in structured(demo, regex=IPV4):
        assert re.fullmatch(IPV4, output.outputs[0].text)
    for output in structured(demo, grammar=SQL):
        assert re.fullmatch(r"SELECT col_[12] FROM table_[12]", output.outputs[0].text)


def test_an_invalid_grammar(demo: LLM) -> None:
    with pytest.raises(ValueError, match="invalid grammar"):
        structured(demo, grammar="not a grammar")


# test_embedding.py, test_score.py


def test_embed(demo: LLM) -> None:
    outputs = demo.embed(PROMPTS)
    assert [len(output.outputs.embedding) for output in outputs] == [576] * 4
    assert all(math.isclose(math.hypot(*output.outputs.embedding), 1, rel_tol=1e-4) for output in outputs)


def test_normalize(demo: LLM) -> None:
    default, scaled, plain = (
        demo.embed(PROMPTS[0], pooling_params=PoolingParams(use_activation=use))[0].outputs.embedding for use in (None, True, False)
    )
    length = math.hypot(*plain)
    assert default == scaled and abs(length - 1) > 0.01
    assert all(math.isclose(value / length, other, abs_tol=1e-5) for value, other in zip(plain, scaled))


def test_score_pairs_and_labels(demo: LLM) -> None:
    outputs = demo.score("What is the capital of France?", ["The capital of France is Paris.", "Horses eat grass."])
    assert all(0 <= output.outputs.score <= 1 for output in outputs) and len(outputs) == 2
    output = demo.score("The capital of France is", labels=[" Paris", " Horse"])[0]
    assert output.outputs.label == " Paris" and output.outputs.score > 0.9
    assert math.isclose(sum(label.probability for label in output.outputs.labels), 1)
