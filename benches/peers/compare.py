#!/usr/bin/env python3
"""Runs this engine and llama.cpp on the same files and weights, in turn, and prints how many times faster this one is.

Needs `pip install llama-cpp-python==0.3.36`, the demo model (any example fetches it) and
`cargo build --release --example run_batch`. Weights are converted with llama.cpp's own quantiser; both sides read the same
GGUF file. Loading is not counted. For the files see make_workloads.py; they are written to a temporary folder.

Usage: compare.py [--weights q4_0,q4_1,q8_0] [--workloads A,B,C,D,S] [--pairs 3] [--rows N] [--slots 32,64]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import llama_cpp as llama

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vllm_batch"
DEMO = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
FORMATS = {"f32": llama.LLAMA_FTYPE_ALL_F32, "f16": llama.LLAMA_FTYPE_MOSTLY_F16, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0,
           "q5_0": llama.LLAMA_FTYPE_MOSTLY_Q5_0, "q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0}
SILENT = llama.llama_log_callback(lambda *_: None)  # kept, since llama.cpp calls it later


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    listed = lambda text: text.split(",")
    parser.add_argument("--weights", type=listed, default=["q4_0", "q4_1", "q8_0"])
    parser.add_argument("--workloads", type=listed, default=list("ABCDS"))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--rows", type=int, help="only the first so many rows of each file")
    parser.add_argument("--slots", type=listed, default=["64"], help="sequences of llama.cpp; the faster one counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--run-batch", default=str(HERE.parents[1] / "target/release/examples/run_batch"))
    return parser.parse_args()


def weights(name, folder):
    """The demo model in the format `name`; its own is Q4_1."""
    if name == "q4_1":
        return DEMO
    target = folder / f"{name}.gguf"
    params = llama.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, FORMATS[name]
    assert llama.llama_model_quantize(str(DEMO).encode(), str(target).encode(), params) == 0
    return target


def measured(command):
    """The JSON object that the command prints, and its peak memory in MB."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if process.returncode not in (0, 3):
            sys.exit(f"{command[0]} failed with {process.returncode}")
        return json.load(out) | {"megabytes": usage.ru_maxrss / 1024}


def ours(options, model, file, folder):
    output = folder / "ours.jsonl"
    for path in folder.glob("ours*"):
        path.unlink()
    return measured([options.run_batch, "--model", str(model), "--served-model-name", "SmolLM2-135M-Instruct", "--input",
                     str(file), "--output", str(output), "--threads", str(options.threads), "--report", "json"])


def theirs(options, model, file):
    base = [sys.executable, str(HERE / "llama_workload.py"), str(model), str(file), "--threads", str(options.threads)]
    runs = [measured([*base, "--slots", slots]) for slots in options.slots]
    return min(runs, key=lambda run: run["elapsed_seconds"])


def main():
    options = arguments()
    llama.llama_log_set(SILENT, None)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.executable, str(HERE / "make_workloads.py"), name], check=True, stdout=subprocess.DEVNULL)
        print("weights workload  ours s  theirs s  ratio   ours tok/s  theirs tok/s  ours MB  theirs MB  (medians)")
        for weight in options.weights:
            model = weights(weight, folder)
            for workload in options.workloads:
                file = shortened(next(folder.glob(f"{workload}_*.jsonl")), options.rows)
                pairs = [(ours(options, model, file, folder), theirs(options, model, file)) for _ in range(options.pairs)]
                report(weight, workload, pairs)


def shortened(file, rows):
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:rows]), encoding="utf-8")
    return file


def report(weight, workload, pairs):
    median = lambda side, of: statistics.median(of(pair[side]) for pair in pairs)
    seconds = lambda run: run["elapsed_seconds"]
    rate = lambda run: (run["prompt_tokens"] + run["generated_tokens"]) / run["elapsed_seconds"]
    ratio = statistics.median(seconds(b) / seconds(a) for a, b in pairs)
    memory = lambda run: run["megabytes"]
    print(f"{weight:7} {workload:8} {median(0, seconds):7.1f} {median(1, seconds):9.1f} {ratio:6.2f} {median(0, rate):12.0f}"
          f" {median(1, rate):13.0f} {median(0, memory):8.0f} {median(1, memory):10.0f}", flush=True)


if __name__ == "__main__":
    main()
