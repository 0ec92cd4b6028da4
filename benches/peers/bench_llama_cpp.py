#!/usr/bin/env python3
"""Tokens a second of llama.cpp on the demo model, as it is and in other formats: prefill of 512 tokens, and decoding at
several batch sizes.

The counterpart of `cargo bench --bench engine`. Needs `pip install llama-cpp-python==0.3.36` and the demo model, which any
example fetches. Usage: bench_llama_cpp.py [MODEL.gguf] [THREADS]
"""
import os
import statistics
import sys
import tempfile
import time

import llama_cpp as llama

CACHE = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
MODEL = sys.argv[1] if len(sys.argv) > 1 else f"{CACHE}/vllm_batch/SmolLM2-135M-Instruct.Q4_1.gguf"
THREADS = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count()
PROMPT, RUNS, BATCHES = 64, 5, (1, 8, 32, 128)
FORMATS = {"as it is": None, "f32": llama.LLAMA_FTYPE_ALL_F32, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0,
           "q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0}
SILENT = llama.llama_log_callback(lambda *_: None)  # kept, since llama.cpp calls it later


def convert(source, target, ftype):
    params = llama.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype, params.nthread = True, ftype, THREADS
    assert llama.llama_model_quantize(source.encode(), target.encode(), params) == 0


def context(model, sequences, tokens):
    params = llama.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = tokens, 2048, 512, sequences
    params.n_threads = params.n_threads_batch = THREADS
    params.kv_unified, params.flash_attn_type = True, llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    return llama.llama_init_from_model(model, params)


def decode(ctx, batch, tokens):
    """Computes `(token, position, sequence, wants_logits)`; returns the seconds that it took."""
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, logits) in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    start = time.perf_counter()
    assert llama.llama_decode(ctx, batch) == 0
    llama.llama_synchronize(ctx)
    return time.perf_counter() - start


def token(i, sequence=0):
    return 1000 + (i * 7919 + sequence * 104_729) % 40_000


def prefill(model):
    ctx, batch = context(model, 1, 2048), llama.llama_batch_init(2048, 0, 1)
    seconds = []
    for _ in range(RUNS):
        llama.llama_memory_clear(llama.llama_get_memory(ctx), True)
        seconds.append(decode(ctx, batch, [(token(i), i, 0, i == 511) for i in range(512)]))
    llama.llama_free(ctx)
    return 512 / statistics.median(seconds)


def decoding(model, sequences):
    ctx, batch = context(model, sequences, sequences * 256), llama.llama_batch_init(2048, 0, 1)
    prompts = [(token(i, s), i, s, i == PROMPT - 1) for s in range(sequences) for i in range(PROMPT)]
    for start in range(0, len(prompts), 2048):
        decode(ctx, batch, prompts[start:start + 2048])
    steps = [decode(ctx, batch, [(token(i, s), i, s, True) for s in range(sequences)]) for i in range(PROMPT, PROMPT + 32)]
    llama.llama_free(ctx)
    return sequences / statistics.median(steps)


def measure(name, path):
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    print(f"{name}: prefill/512 {prefill(model):.0f} tok/s", flush=True)
    for sequences in BATCHES:
        print(f"{name}: decode/{sequences} {decoding(model, sequences):.0f} tok/s", flush=True)
    llama.llama_model_free(model)


def main():
    llama.llama_log_set(SILENT, None)
    llama.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        for name, ftype in FORMATS.items():
            path = MODEL if ftype is None else os.path.join(folder, f"{name}.gguf")
            if ftype is not None:
                convert(MODEL, path, ftype)
            measure(name, path)


main()
