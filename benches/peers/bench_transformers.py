#!/usr/bin/env python3
"""Answers a batch file with `transformers`' `generate`, in padded batches, and prints one JSON object as its last line.

Rows are sorted by the length of answer and prompt, so that a batch ends together and carries little padding. A beginning
that all prompts share is computed once and its cache repeated for each batch. transformers holds to no JSON Schema: rows with
one are refused.

Needs `pip install torch transformers`. Usage: bench_transformers.py FOLDER INPUT.jsonl [--slots 64] [--threads N]
[--dtype float32|bfloat16]
"""
import copy
import sys
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, GenerationConfig

import workload


def computed(model, tokens):
    """The cache of a beginning."""
    cache = DynamicCache(config=model.config)
    if tokens:
        model(torch.tensor([tokens]), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def answer(model, batch, shared):
    """The number of tokens of the answers to a batch, padded between the shared beginning and what is each row's own."""
    start = len(shared.tokens)
    longest = max(len(row.prompt) for row in batch)
    pad = lambda row: longest - len(row.prompt)
    ids = torch.tensor([row.prompt[:start] + [0] * pad(row) + row.prompt[start:] for row in batch])
    mask = torch.tensor([[1] * start + [0] * pad(row) + [1] * (len(row.prompt) - start) for row in batch])
    cache = copy.deepcopy(shared.cache)
    if start:
        cache.batch_repeat_interleave(len(batch))
    max_tokens = max(row.max_tokens for row in batch)
    config = GenerationConfig(do_sample=False, max_new_tokens=max_tokens, eos_token_id=None, pad_token_id=0)
    out = model.generate(ids, attention_mask=mask, past_key_values=cache, generation_config=config)
    assert out.shape[1] == longest + max_tokens
    return sum(row.max_tokens for row in batch)


class Shared:
    def __init__(self, model, rows):
        prompts = [row.prompt for row in rows]
        # `generate` wants at least one token that is not in the cache.
        self.tokens = rows[0].prompt[: min(workload.common_prefix(prompts), min(map(len, prompts)) - 1)]
        self.cache = computed(model, self.tokens)


def run(model, rows, size):
    shared = Shared(model, rows)
    rows = sorted(rows, key=lambda row: (row.max_tokens, len(row.prompt)), reverse=True)
    return sum(answer(model, rows[i : i + size], shared) for i in range(0, len(rows), size))


def main():
    options = workload.parser(__doc__).parse_args()
    torch.set_num_threads(options.threads)
    dtype = getattr(torch, options.dtype)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa")
    rows = workload.rows(options.input, AutoTokenizer.from_pretrained(options.model))
    if any(row.schema or not row.ignore_eos for row in rows):
        sys.exit("rows with a schema, or that end early, are not measured with transformers")
    with torch.inference_mode():
        started = time.perf_counter()
        num_generated = run(model, rows, options.slots)
        seconds = time.perf_counter() - started
    workload.report(seconds, rows, num_generated)


if __name__ == "__main__":
    main()
