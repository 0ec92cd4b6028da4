#!/usr/bin/env python3
"""Runs this engine and its peers on the same files and weights, in turn, and prints how many times faster this one is.

Needs `pip install llama-cpp-python==0.3.36`, the demo model (any example fetches it) and
`cargo build --release --example run_batch`. Weights are converted with llama.cpp's own quantiser; this engine and llama.cpp
read the same GGUF file. transformers and vLLM read those weights widened by export_model.py; they may live in environments of
their own, see `--transformers-python`. Loading is not counted. For the files see make_workloads.py; they are written to a
temporary folder.

Every measurement is a process of its own. A round takes all weights, files and engines once; the figures are medians of
`--rounds` rounds, as Markdown on standard output, while what is measured is told on standard error as it comes.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

import llama_cpp as llama

from workload import measured, run

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "vllm_batch"
DEMO = CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf"
FORMATS = {"f32": llama.LLAMA_FTYPE_ALL_F32, "f16": llama.LLAMA_FTYPE_MOSTLY_F16, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0,
           "q5_0": llama.LLAMA_FTYPE_MOSTLY_Q5_0, "q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0}
# So many rows of each file take about the same time, and all of them 20 minutes with the default options.
ROWS = {"A": 64, "B": 40, "C": 32, "D": 6, "S": 40}
OURS = "vllm_batch"
SILENT = llama.llama_log_callback(lambda *_: None)  # kept, since llama.cpp calls it later


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    listed = lambda text: text.split(",")
    parser.add_argument("--peers", type=listed, default=["llama.cpp"], help=f"any of {','.join(PEERS)}")
    parser.add_argument("--weights", type=listed, default=["q4_0", "q4_1", "q8_0"])
    parser.add_argument("--workloads", type=listed, default=list(ROWS))
    parser.add_argument("--rounds", "--pairs", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="begin no round that would end after so many minutes")
    parser.add_argument("--rows", type=rows, default=ROWS,
                        help="only the first so many rows: a number, a list such as A=64,D=6, or `all` [default: %(default)s]")
    parser.add_argument("--slots", type=listed, default=["64"], help="sequences of the peers; the faster one counts")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--dtypes", type=listed, default=["float32", "bfloat16"],
                        help="what transformers and vLLM compute in; the faster one counts")
    parser.add_argument("--transformers-python", default=sys.executable, help="the Python that has transformers")
    parser.add_argument("--vllm-python", default=sys.executable, help="the Python that has vLLM")
    parser.add_argument("--run-batch", default=str(HERE.parents[1] / "target/release/examples/run_batch"))
    parser.add_argument("--json", type=pathlib.Path, help="write every single measurement to this file")
    return parser.parse_args()


def rows(text):
    """How many rows of each file; None stands for all of them."""
    if text == "all":
        return dict.fromkeys(ROWS)
    if text.isdigit():
        return dict.fromkeys(ROWS, int(text))
    return ROWS | {name: int(count) for name, count in (part.split("=") for part in text.split(","))}


def weights(name, folder):
    """The demo model in the format `name`; its own is Q4_1."""
    if name == "q4_1":
        return DEMO
    target = folder / f"{name}.gguf"
    params = llama.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, FORMATS[name]
    assert llama.llama_model_quantize(str(DEMO).encode(), str(target).encode(), params) == 0
    return target


def widened(options, model, folder):
    """The folder with the same weights as f32; written when it is first asked for."""
    target = folder / f"{model.stem}.f32"
    if not target.exists():
        run([options.transformers_python, HERE / "export_model.py", model, target])
    return target


def vllm_batch(options, model, file, folder):
    output = folder / "ours.jsonl"
    for path in folder.glob("ours*"):
        path.unlink()
    command = [options.run_batch, "--model", model, "--served-model-name", "SmolLM2-135M-Instruct", "--input", file]
    return measured([*command, "--output", output, "--threads", options.threads, "--report", "json"], accepted=(0, 3))


def fastest(options, command, dtypes=()):
    """The best of all settings."""
    settings = [["--slots", slots] for slots in options.slots]
    if dtypes:
        settings = [[*setting, "--dtype", dtype] for setting in settings for dtype in dtypes]
    runs = [measured([*command, "--threads", options.threads, *setting]) | {"settings": setting} for setting in settings]
    return min(runs, key=lambda run: run["elapsed_seconds"])


def llama_cpp(options, model, file, _):
    return fastest(options, [sys.executable, HERE / "llama_workload.py", model, file])


def transformers(options, model, file, folder):
    return python_peer(options, options.transformers_python, "bench_transformers.py", widened(options, model, folder), file)


def vllm(options, model, file, folder):
    return python_peer(options, options.vllm_python, "bench_vllm.py", widened(options, model, folder), file)


def python_peer(options, python, program, folder, file):
    return fastest(options, [python, HERE / program, folder, file], options.dtypes)


PEERS = {"llama.cpp": llama_cpp, "transformers": transformers, "vllm": vllm}


def main():
    options = arguments()
    llama.llama_log_set(SILENT, None)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        run([sys.executable, HERE / "make_workloads.py", name])
        files = {workload: shortened(next(folder.glob(f"{workload}_*.jsonl")), options.rows[workload])
                 for workload in options.workloads}
        models = {weight: weights(weight, folder) for weight in options.weights}
        runs = rounds(options, models, files, folder)
    if options.json:
        options.json.write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
    print(markdown(options, runs))


def shortened(file, count):
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:count]), encoding="utf-8")
    return file


def rounds(options, models, files, folder):
    """All measurements, each as an object that says what was measured."""
    engines = {OURS: vllm_batch} | {name: PEERS[name] for name in options.peers}
    runs, started = [], time.monotonic()
    for index in range(options.rounds):
        begun = time.monotonic()
        for weight, model in models.items():
            for workload, file in files.items():
                for engine, measure in engines.items():
                    # transformers holds to no schema.
                    if (engine, workload) != ("transformers", "S"):
                        case = {"round": index, "weights": weight, "workload": workload, "engine": engine}
                        runs.append(case | totals(measure(options, model, file, folder)))
                        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
        ended = time.monotonic()
        if options.minutes and ended - started + (ended - begun) > options.minutes * 60:
            break
    return runs


def totals(run):
    tokens = run["prompt_tokens"] + run["generated_tokens"]
    return {"seconds": round(run["elapsed_seconds"], 3), "tokens": tokens, "megabytes": round(run["megabytes"]),
            "settings": run.get("settings", [])}


def markdown(options, runs):
    """The table of all cases; how many times faster and how much memory beside each peer."""
    peers = options.peers
    head = ["weights", "file", "rows", *(f"{name} tok/s" for name in (OURS, *peers)), *(f"times {name}" for name in peers),
            f"{OURS} MB", *(f"against {name}" for name in peers)]
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    for weight in options.weights:
        for workload in options.workloads:
            of = {name: [run for run in runs if (run["weights"], run["workload"], run["engine"]) == (weight, workload, name)]
                  for name in (OURS, *peers)}
            lines.append(" | ".join([weight.upper(), workload, str(options.rows[workload] or "all"), *cells(of, peers)]))
    num_rounds = 1 + max(run["round"] for run in runs)
    return f"Rounds: {num_rounds}.\n\n" + "\n".join(f"| {line} |" for line in lines)


def cells(of, peers):
    median = lambda runs, value: statistics.median(map(value, runs)) if runs else None
    shown = lambda number, digits: "" if number is None else f"{number:,.{digits}f}"
    rate = lambda run: run["tokens"] / run["seconds"]
    pairs = {peer: list(zip(of[OURS], of[peer])) for peer in peers}
    return [
        *(shown(median(runs, rate), 0) for runs in of.values()),
        *(shown(median(pairs[peer], lambda pair: pair[1]["seconds"] / pair[0]["seconds"]), 1) for peer in peers),
        shown(median(of[OURS], lambda run: run["megabytes"]), 0),
        *(shown(median(pairs[peer], lambda pair: pair[0]["megabytes"] / pair[1]["megabytes"]), 2) for peer in peers),
    ]


if __name__ == "__main__":
    main()
