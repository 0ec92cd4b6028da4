#!/usr/bin/env python3
"""How does the cost of a batch grow with the batch size, the prompts' length, the share of them that is common, and the
number of rows? Measures with `run_batch` on files made here, and writes what scripts/plot_performance.py draws.

Needs `cargo build --release --example run_batch`; takes about five minutes on two cores.
Usage: growth.py [--rounds 3] [--scale 1.0] [--json docs/performance/growth.json]
"""
import argparse
import json
import os
import pathlib
import statistics
import tempfile

import workload

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="less than 1: fewer rows, for a quick look")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--run-batch", default=str(ROOT / "target/release/examples/run_batch"))
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "docs/performance/growth.json")
    options = parser.parse_args()
    cases = [(name, x, case) for name, sweep in SWEEPS.items() for x, case in sweep(options.scale)]
    # Rounds outside, so that a slow minute of the machine does not fall on all measurements of one case.
    runs = [[run(options, **case) for _, _, case in cases] for _ in range(options.rounds)]
    growth = {"threads": options.threads, "rounds": options.rounds} | {name: [] for name in SWEEPS}
    for (name, x, case), measured in zip(cases, zip(*runs)):
        growth[name].append({"x": x, "rows": case["rows"], **median(measured)})
    lines = json.dumps(growth, indent=1)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(lines + "\n", encoding="utf-8")


def by_batch_size(scale):
    """Short prompts and answers of 64 tokens, in full batches."""
    for size in (1, 2, 4, 8, 16, 32, 64, 128):
        rows = max(size, scaled(16, scale))
        yield size, {"rows": rows, "prompt": 16, "answer": 64, "max_num_seqs": size}


def by_prompt_length(scale):
    """The same number of prompt tokens, cut into prompts of different length, one token of answer."""
    for length in (128, 256, 512, 1024, 2048, 4096):
        yield length, {"rows": max(1, scaled(8192, scale) // length), "prompt": length, "answer": 1}


def by_prefix_share(scale):
    """Prompts of 512 tokens of which a part is the same in all rows; the share in per cent."""
    for percent in (0, 25, 50, 75, 90, 95):
        yield percent, {"rows": scaled(32, scale), "prompt": 512, "answer": 8, "common": 512 * percent // 100}


def by_rows(scale):
    """Short rows, more and more of them."""
    for rows in (16, 64, 256, 1024):
        rows = scaled(rows, scale)
        yield rows, {"rows": rows, "prompt": 32, "answer": 8}


SWEEPS = {"batch_size": by_batch_size, "prompt_length": by_prompt_length, "prefix_share": by_prefix_share, "rows": by_rows}


def scaled(count, scale):
    return max(1, round(count * scale))


def line(row, prompt, answer, common):
    token = lambda i: 1000 + (i * 7919 + (0 if i < common else row + 1) * 104_729) % 40_000
    body = {"model": "demo", "prompt": [token(i) for i in range(prompt)], "max_tokens": answer, "temperature": 0, "ignore_eos": True}
    return {"custom_id": str(row), "method": "POST", "url": "/v1/completions", "body": body}


def run(options, rows, prompt, answer, common=0, max_num_seqs=64):
    """Seconds without loading, tokens, and the peak memory of one batch."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "in.jsonl"
        file.write_text("".join(json.dumps(line(row, prompt, answer, common)) + "\n" for row in range(rows)), encoding="utf-8")
        command = [options.run_batch, "--served-model-name", "demo", "-i", str(file), "-o", f"{folder}/out.jsonl", "--report", "json",
                   "--threads", str(options.threads), "--max-num-seqs", str(max_num_seqs), "--num-speculative-tokens", "0"]
        report = workload.measured(command)
    assert report["prompt_tokens"] == rows * prompt and report["generated_tokens"] == rows * answer, report
    return {"seconds": report["elapsed_seconds"], "prompt_tokens": report["prompt_tokens"],
            "generated_tokens": report["generated_tokens"], "megabytes": report["megabytes"]}


def median(runs):
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return middle | {"seconds": round(middle["seconds"], 3), "megabytes": round(middle["megabytes"])}


if __name__ == "__main__":
    main()
