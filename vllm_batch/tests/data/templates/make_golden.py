"""Renders the templates of this folder with transformers' own Jinja environment and writes golden.jsonl.

pip install transformers==5.23.0 jinja2==3.1.6; python make_golden.py
"""

import datetime
import itertools
import json
import pathlib

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).parent
NOW = datetime.datetime(2025, 3, 7, 8, 5, tzinfo=datetime.timezone.utc)
TOKENS = {
    "features": {"bos_token": "<s>"},
    "gemma2": {"bos_token": "<bos>", "eos_token": "<eos>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "mistral": {"bos_token": "<s>", "eos_token": "</s>"},
    "qwen2_5": {"eos_token": "<|im_end|>"},
    "qwen3": {"eos_token": "<|im_end|>"},
    "smollm2": {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
}
CONVERSATIONS = [
    [("user", "Hello")],
    [("system", " Be <b>brief</b> & \"kind\". \n"), ("user", "Was ist 2+2?\n")],
    [("user", "Hello x"), ("assistant", "  <think>\nhm\n</think>\n\nHi 🙂!  "), ("user", "naïve 日本語 'quotes' \\ back?")],
    [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
    [("developer", "Obey."), ("user", "Hi")],
    [("user", "one"), ("user", "two")],
    [("user", "Weather?"), ("assistant", "Asking."), ("tool", "{\"t\": 3}"), ("tool", "sunny")],
    [("user", "q"), ("assistant", "<think>\nwhy\n</think>\n\nA"), ("user", "r"), ("assistant", "<think>\nso\n</think>\n\nB")],
    [("user", "")],
]


def render(name, messages, add_generation_prompt):
    template = _compile_jinja_template((HERE / f"{name}.jinja").read_text())
    try:
        text = template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            strftime_now=NOW.strftime,
            **TOKENS[name],
        )
        return {"text": text}
    except Exception as error:
        return {"error": str(error)}


with open(HERE / "golden.jsonl", "w") as output:
    for name, turns, prompt in itertools.product(TOKENS, CONVERSATIONS, (True, False)):
        messages = [{"role": role, "content": content} for role, content in turns]
        case = {"template": name, "tokens": TOKENS[name], "messages": messages, "add_generation_prompt": prompt}
        case.update(render(name, messages, prompt))
        output.write(json.dumps(case, ensure_ascii=False) + "\n")
