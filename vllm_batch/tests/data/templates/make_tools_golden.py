"""Renders the templates with tools with Jinja, set up as transformers sets it up, and writes golden_tools.jsonl.

pip install jinja2==3.1.6; python make_tools_golden.py
"""

import copy
import itertools
import json
import pathlib

from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).parent
TOKENS = {
    "llama3_1_tools": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral_v3_tools": {"bos_token": "<s>", "eos_token": "</s>"},
    "qwen2_5_tools": {"eos_token": "<|im_end|>"},
    "qwen3_tools": {"eos_token": "<|im_end|>"},
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Zürich, say"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Looks up.", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now"}},
]


def call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


USER = {"role": "user", "content": "Is it warm in Rome?"}
WEATHER = call("abcdefg01", "weather", '{"city":"Rome","days":2}')
ONE = {"role": "assistant", "content": "", "tool_calls": [WEATHER]}
RESULT = {"role": "tool", "content": '{"celsius": 21}', "tool_call_id": "abcdefg01"}
CONVERSATIONS = [
    [USER],
    [{"role": "system", "content": "Be brief."}, USER],
    [USER, ONE, RESULT],
    [USER, ONE, RESULT, {"role": "assistant", "content": "It is."}, {"role": "user", "content": "Thanks!"}],
    [USER, {**ONE, "content": "Let me see.", "tool_calls": [WEATHER, call("abcdefg02", "now", "{}")]}, RESULT,
     {"role": "tool", "content": "noon", "tool_call_id": "abcdefg02"}],
    [USER, {**ONE, "reasoning": "They want the weather."}, RESULT],
    [USER, {**ONE, "tool_calls": [call("1", "now", "{}")]}],
]


def raise_exception(message):
    raise ValueError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def seen(message):
    """What vLLM makes of a message before the template sees it."""
    message = copy.deepcopy(message)
    for one in message.get("tool_calls", []):
        one["function"]["arguments"] = json.loads(one["function"]["arguments"])
    if "reasoning" in message:
        message["reasoning_content"] = message["reasoning"]
    return message


def render(name, messages, tools):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    template = environment.from_string((HERE / f"{name}.jinja").read_text())
    try:
        text = template.render(
            messages=[seen(message) for message in messages],
            tools=tools,
            documents=None,
            add_generation_prompt=True,
            **TOKENS[name],
        )
        return {"text": text}
    except Exception as error:
        return {"error": str(error)}


with open(HERE / "golden_tools.jsonl", "w") as output:
    for name, messages, tools in itertools.product(TOKENS, CONVERSATIONS, (TOOLS, None)):
        case = {"template": name, "tokens": TOKENS[name], "messages": messages, "tools": tools}
        case.update(render(name, messages, tools))
        output.write(json.dumps(case, ensure_ascii=False) + "\n")
