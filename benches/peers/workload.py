"""What the programs here share: options, the rows of a batch file, the object that they print, and how one is measured."""
import argparse
import json
import os
import subprocess
import sys
import tempfile


def parser(doc):
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", help="a folder that export_model.py wrote")
    options.add_argument("input", help="a batch file, see make_workloads.py")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--slots", type=int, default=64, help="sequences that run at the same time")
    options.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    return options


class Row:
    """A request: the token ids of its prompt, and what is asked of the answer."""

    def __init__(self, body, tokenizer):
        text = tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        self.prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        self.max_tokens, self.ignore_eos = body["max_tokens"], body.get("ignore_eos", False)
        self.schema = body.get("response_format", {}).get("json_schema", {}).get("schema")


def rows(file, tokenizer):
    with open(file, encoding="utf-8") as lines:
        return [Row(json.loads(line)["body"], tokenizer) for line in lines]


def report(seconds, all_rows, num_generated):
    """The last line of what a program prints: what compare.py reads."""
    print(json.dumps({
        "elapsed_seconds": seconds,
        "prompt_tokens": sum(len(row.prompt) for row in all_rows),
        "generated_tokens": num_generated,
    }))


def common_prefix(prompts):
    """How many tokens all prompts begin with; 0 where that is not worth its own computation."""
    first, last = min(prompts), max(prompts)
    length = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))
    return length if len(prompts) > 1 and length >= 32 else 0


def run(command, accepted=(0,)):
    """What the command printed, and its peak memory in MB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(list(map(str, command)), stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode not in accepted:
            sys.exit(f"{err.read()[-4000:].decode()}\n{command[0]} failed with {process.returncode}")
        return out.read().decode(), usage.ru_maxrss / 1024


def measured(command, accepted=(0,)):
    """The JSON object in the last line that the command prints, and its peak memory."""
    text, megabytes = run(command, accepted)
    return json.loads(text.splitlines()[-1]) | {"megabytes": megabytes}
