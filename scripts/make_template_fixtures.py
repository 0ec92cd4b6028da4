"""Renders chat templates with transformers and writes what comes out to vllm_batch/tests/data/templates.

`golden.jsonl` is of the templates in that folder, `golden_llama_cpp.jsonl` of those that llama.cpp's source has and whose
licences ask for more than a notice; the folder `models/templates` of that source is the argument. Each line has the
template, what it sees, and the text, or the words of `raise_exception`, or only that rendering fails.

pip install transformers==5.24.0 jinja2==3.1.6; python scripts/make_template_fixtures.py llama.cpp/models/templates
"""

import argparse
import copy
import datetime
import json
import pathlib

import jinja2
from transformers.utils import chat_template_utils

DATA = pathlib.Path(__file__).parents[1] / "vllm_batch" / "tests" / "data" / "templates"


class Clock:
    """Stands in for `datetime` where `strftime_now` reads the time."""

    @staticmethod
    def now():
        return datetime.datetime(2025, 3, 7, tzinfo=datetime.timezone.utc)


chat_template_utils.datetime = Clock
CHATML = {"eos_token": "<|im_end|>"}
LLAMA = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
MISTRAL = {"bos_token": "<s>", "eos_token": "</s>"}
OWN = {
    "features": {"bos_token": "<s>"},
    "smollm2": {"bos_token": "<|im_start|>", **CHATML},
    "smollm3": CHATML,
    "qwen2_5": CHATML,
    "qwen3": CHATML,
    "qwen3_coder": CHATML,
    "qwq": CHATML,
    "deepseek_r1_distill_qwen": {"bos_token": "<|begin_of_sentence|>", "eos_token": "<|end_of_sentence|>"},
    "mistral_nemo": MISTRAL,
    "mistral_small_3_2": MISTRAL,
    "phi3_5": {"bos_token": "<s>", "eos_token": "<|endoftext|>"},
    "phi_4": {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
    "granite_3_3": {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>"},
}
LLAMA_CPP = {
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA,
    "meta-llama-Llama-3.2-3B-Instruct": LLAMA,
    "meta-llama-Llama-3.3-70B-Instruct": LLAMA,
    "google-gemma-2-2b-it": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": LLAMA,
}

PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Zürich, say: <b>\"'&\\ 🙂"},
        "days": {"type": "integer", "minimum": 1, "default": 3},
        "units": {"type": "array", "items": {"enum": ["°C", None, True, 1.0, 1e-7]}},
    },
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "Looks up.", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now"}},
]
DOCUMENTS = [{"doc_id": 7, "title": "Rome", "text": "It is warm in Rome."}, {"doc_id": "b", "text": "émigré\n"}]


def call(id, name, arguments):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def says(*turns):
    return [{"role": role, "content": content} for role, content in turns]


USER = {"role": "user", "content": "Is it warm in Rome?"}
WEATHER = call("abcdefg01", "weather", '{"city": "Zürich \\"x\\" <b>", "days": 2}')
NUMBERS = call("abcdefg03", "weather", '{"list": [1, -0.0, 1.0, 1e-7, 1.5e300, 12345678901234567890, true, null, [], {}], "a": {"b": {"c": "d\\n"}}}')
ONE = {"role": "assistant", "content": "", "tool_calls": [WEATHER]}
RESULT = {"role": "tool", "content": '{"celsius": 21}', "tool_call_id": "abcdefg01"}
BOTH = {"role": "assistant", "content": "Let me see.", "tool_calls": [WEATHER, call("abcdefg02", "now", "{}")]}
NOON = {"role": "tool", "content": "noon", "tool_call_id": "abcdefg02"}
THANKS = [{"role": "assistant", "content": "It is."}, {"role": "user", "content": "Thanks!"}]
THOUGHT = {"reasoning": "\nThey want the weather.\n"}
OPEN = {"add_generation_prompt": False}
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}
HELLO = says(("user", "Hello"))
TALK = says(("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", " d: \n"))

# Messages and what goes with them.
CASES = [
    (HELLO, {}),
    (HELLO, OPEN),
    (says(("system", " Be <b>brief</b> & \"kind\". \n"), ("user", "Was ist 2+2?\n")), {}),
    (says(("user", "Hello x"), ("assistant", "  <think>\nhm\n</think>\n\nHi 🙂!  "), ("user", "naïve 日本語 'q' \\ back?")), {}),
    (TALK, OPEN),
    (TALK, {}),
    (TALK, CONTINUE),
    (HELLO, CONTINUE),
    (says(("developer", "Obey."), ("user", "Hi")), {}),
    (says(("user", "one"), ("user", "two")), {}),
    (says(("assistant", "first"), ("user", "two")), {}),
    (says(("system", "alone")), {}),
    (says(("user", "a"), ("system", "late"), ("user", "b")), {}),
    (says(("user", "")), {}),
    (says(("user", "q"), ("assistant", "<think>\nwhy\n</think>\n\nA"), ("user", "r"), ("assistant", "<think>\nso\n</think>\n\nB")), OPEN),
    ([USER, {"role": "assistant", "content": "Yes.", **THOUGHT}, {"role": "user", "content": "Sure?"}], {}),
    ([USER, {"role": "assistant", "content": "Yes.", **THOUGHT}], CONTINUE),
    (HELLO, {"enable_thinking": False}),
    (HELLO, {"enable_thinking": True, "thinking": True}),
    (says(("system", "Short. /no_think "), ("user", "Hi")), {}),
    (HELLO, {"documents": DOCUMENTS}),
    (HELLO, {"documents": DOCUMENTS, "controls": {"citations": True, "length": "short"}}),
    (HELLO, {"date_string": "1 Jan 2020", "bos_token": "<B>"}),
    ([USER], {"tools": TOOLS}),
    (says(("system", "Be brief."), ("user", "Hi")), {"tools": TOOLS}),
    ([USER], {"tools": TOOLS, "tools_in_user_message": False}),
    ([USER], {"tools": TOOLS, "documents": DOCUMENTS}),
    ([USER, ONE], {"tools": TOOLS}),
    ([USER, ONE, RESULT], {"tools": TOOLS}),
    ([USER, ONE, RESULT], {}),
    ([USER, ONE, RESULT, *THANKS], {"tools": TOOLS}),
    ([USER, BOTH, RESULT, NOON], {"tools": TOOLS}),
    ([USER, {**ONE, **THOUGHT}, RESULT], {"tools": TOOLS}),
    ([USER, {**ONE, "tool_calls": [NUMBERS]}], {"tools": TOOLS[1:]}),
    ([USER, {**ONE, "tool_calls": [call("1", "now", "{}")]}], {"tools": TOOLS}),
    ([USER, RESULT], {"tools": TOOLS}),
]


def seen(message):
    """What vLLM makes of a message before the template sees it."""
    message = copy.deepcopy(message)
    for one in message.get("tool_calls", []):
        one["function"]["arguments"] = json.loads(one["function"]["arguments"])
    if "reasoning" in message:
        message["reasoning_content"] = message["reasoning"]
    return message


def rendered(template, tokens, messages, options):
    options = {"add_generation_prompt": True, **tokens, **options}
    try:
        conversation = [seen(message) for message in messages]
        texts, _ = chat_template_utils.render_jinja_template([conversation], chat_template=template, **options)
        return {"text": texts[0]}
    except jinja2.exceptions.TemplateError as error:
        # `raise_exception` raises the class itself, the engine's own errors are of subclasses.
        return {"raised": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"fails": type(error).__name__}
    except Exception as error:
        return {"fails": type(error).__name__}


def understands(source, messages, options):
    """Whether a template looks at the tools and calls that it is given. Where one does not, this crate writes them into the
    messages, which transformers does not do."""
    calls = any("tool_calls" in message for message in messages)
    return ("tools" in source or "tools" not in options) and ("tool_calls" in source or not calls)


def write(name, folder, templates):
    with open(DATA / name, "w") as output:
        for template, tokens in templates.items():
            source = (folder / f"{template}.jinja").read_text()
            for messages, options in CASES:
                if not understands(source, messages, options):
                    continue
                case = {"template": template, "tokens": tokens, "messages": messages, "options": options}
                case |= rendered(source, tokens, messages, options)
                output.write(json.dumps(case, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("llama_cpp_templates", type=pathlib.Path)
    write("golden.jsonl", DATA, OWN)
    write("golden_llama_cpp.jsonl", parser.parse_args().llama_cpp_templates, LLAMA_CPP)
