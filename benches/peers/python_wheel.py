#!/usr/bin/env python3
"""How fast `LLM.generate` of the Python wheel is beside the Rust example `run_batch`: same prompts, same model, same answers.

Both run in processes of their own, in turn; loading is not counted. Exits with 1 where the median of all rounds is below
`--least`, or where an answer differs.

Needs the wheel, the demo model (any example fetches it) and `cargo build --release --example run_batch`.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

from workload import measured, run

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vllm_batch"
DEMO = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "model"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEMO)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--least", type=float, default=0.97, help="the least that Python may have of Rust's throughput")
    parser.add_argument("--run-batch", default=str(HERE.parents[1] / "target/release/examples/run_batch"))
    parser.add_argument("--generate", nargs=2, help=argparse.SUPPRESS)  # what the process that is measured does
    return parser.parse_args()


def main():
    options = arguments()
    if options.generate:
        return generate(options, *options.generate)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        requests = prompts(folder, options.prompts)
        ratios = [one_round(options, requests, folder) for _ in range(options.rounds)]
    median = statistics.median(ratios)
    print(f"Python has {median:.3f} of Rust's throughput ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds)")
    return 0 if median >= options.least else 1


def prompts(folder, count):
    """A batch file with the texts of the mixed workload as prompts."""
    run([sys.executable, HERE / "make_workloads.py", folder])
    requests = folder / "in.jsonl"
    with next(folder.glob("B_*.jsonl")).open(encoding="utf-8") as lines, requests.open("w", encoding="utf-8") as file:
        for index, line in zip(range(count), lines):
            asked = json.loads(line)["body"]
            body = {"model": NAME, "prompt": asked["messages"][-1]["content"], "temperature": 0,
                    "max_tokens": asked["max_tokens"], "ignore_eos": True}
            row = {"custom_id": str(index), "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    return requests


def one_round(options, requests, folder):
    """Rust's seconds for each second of Python."""
    output, texts = folder / "out.jsonl", folder / "texts.json"
    output.unlink(missing_ok=True)
    # In the order of the file, as `generate` runs them.
    rust = measured([options.run_batch, "--model", options.model, "--served-model-name", NAME, "--input", requests, "--output",
                     output, "--threads", options.threads, "--plan", "fifo", "--no-deduplicate", "--report", "json"])
    python = measured([sys.executable, __file__, "--model", options.model, "--threads", options.threads,
                       "--generate", requests, texts])
    answers = {row["custom_id"]: row["response"]["body"]["choices"][0]["text"] for row in map(json.loads, output.open())}
    if json.loads(texts.read_text()) != [answers[str(index)] for index in range(len(answers))]:
        sys.exit("the answers differ")
    ratio = rust["elapsed_seconds"] / python["elapsed_seconds"]
    print(f"Rust {rust['elapsed_seconds']:.2f} s, Python {python['elapsed_seconds']:.2f} s: {ratio:.3f}", file=sys.stderr)
    return ratio


def generate(options, requests, texts):
    """Answers the prompts with the wheel, and says how long that took."""
    from vllm_batch import LLM, SamplingParams

    with open(requests, encoding="utf-8") as lines:
        asked = [json.loads(line)["body"] for line in lines]
    params = [SamplingParams(temperature=0, max_tokens=body["max_tokens"], ignore_eos=True) for body in asked]
    with LLM(options.model, threads=options.threads) as llm:
        started = time.perf_counter()
        outputs = llm.generate([body["prompt"] for body in asked], params, raise_on_error=True)
        seconds = time.perf_counter() - started
    pathlib.Path(texts).write_text(json.dumps([output.outputs[0].text for output in outputs]))
    print(json.dumps({"elapsed_seconds": seconds}))


if __name__ == "__main__":
    sys.exit(main())
