"""What the programs beside `llama_workload.py` share: their options, the rows of a batch file, and the object they print."""
import argparse
import json
import os


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
