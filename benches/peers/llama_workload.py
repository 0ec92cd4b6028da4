#!/usr/bin/env python3
"""Answers a batch file with llama.cpp, batched as well as its low-level interface allows, and prints one JSON object.

Continuous batching over `--slots` sequences: a step decodes one token of each running sequence and fills the rest of the
batch with prompts. A beginning that all prompts share is computed once and copied. Answers are greedy; a JSON Schema is
held to by llama.cpp's grammars, tried on the most likely token first, as its server does.

Needs `pip install llama-cpp-python==0.3.36`. Usage: llama_workload.py MODEL.gguf INPUT.jsonl [--slots N] [--threads N]
"""
import argparse
import collections
import ctypes
import json
import os
import time

import llama_cpp as llama
import numpy as np

from workload import common_prefix

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SILENT = llama.llama_log_callback(lambda *_: None)  # kept, since llama.cpp calls it later


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=512, help="tokens of a step")
    parser.add_argument("--rows", type=int, help="only so many rows")
    return parser.parse_args()


def rendered(messages):
    """ChatML with SmolLM2's default system prompt."""
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}, *messages]
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def tokenize(vocab, text):
    data = text.encode()
    tokens = (llama.llama_token * (len(data) + 8))()
    count = llama.llama_tokenize(vocab, data, len(data), tokens, len(tokens), False, True)
    return list(tokens[:count])


class Row:
    def __init__(self, prompt, body, vocab):
        self.tokens, self.num_prompt = prompt, len(prompt)
        self.max_tokens, self.ignore_eos = body["max_tokens"], body.get("ignore_eos", False)
        self.done, self.slot, self.grammar = 0, None, None
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        if schema:
            text = llama.LlamaGrammar.from_json_schema(json.dumps(schema), verbose=False)._grammar
            self.grammar = llama.llama_sampler_init_grammar(vocab, text.encode(), b"root")

    def num_answer(self):
        return len(self.tokens) - self.num_prompt


def allowed(grammar, ids, logits):
    """The most likely of `ids` that the grammar allows, or None."""
    data = (llama.llama_token_data * len(ids))()
    view = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_float)), (len(ids), 3))
    view[:, 0] = np.asarray(ids, dtype=np.int32).view(np.float32)
    view[:, 1] = logits
    array = llama.llama_token_data_array(data, len(ids), -1, False)
    llama.llama_sampler_apply(grammar, ctypes.byref(array))
    kept = np.ctypeslib.as_array(ctypes.cast(array.data, ctypes.POINTER(ctypes.c_float)), (array.size, 3))
    best = int(np.argmax(kept[:, 1]))
    return int(kept[best, 0].view(np.int32)) if np.isfinite(kept[best, 1]) else None


def choose(row, logits):
    token = int(np.argmax(logits))
    if row.grammar is None:
        return token
    fits = allowed(row.grammar, [token], logits[token : token + 1])
    token = fits if fits is not None else allowed(row.grammar, np.arange(len(logits)), logits)
    llama.llama_sampler_accept(row.grammar, token)
    return token


class Batch:
    """llama.cpp's batch through numpy, since setting fields one by one takes longer than some steps."""

    def __init__(self, size):
        self.raw = llama.llama_batch_init(size, 0, 1)
        column = lambda pointer: np.ctypeslib.as_array(pointer, (size,))
        self.token, self.pos, self.logits = column(self.raw.token), column(self.raw.pos), column(self.raw.logits)
        self.sequence = [np.ctypeslib.as_array(self.raw.seq_id[i], (1,)) for i in range(size)]
        column(self.raw.n_seq_id)[:] = 1
        self.count = 0

    def add(self, tokens, start, sequence, last_logits):
        end = self.count + len(tokens)
        self.token[self.count : end] = tokens
        self.pos[self.count : end] = np.arange(start, start + len(tokens))
        self.logits[self.count : end] = 0
        self.logits[end - 1] = last_logits
        for i in range(self.count, end):
            self.sequence[i][0] = sequence
        self.count = end
        return end - 1

    def decode(self, context):
        self.raw.n_tokens = self.count
        assert llama.llama_decode(context, self.raw) == 0
        self.count = 0


def run(context, vocab, rows, options):
    """Answers all rows; the shared beginning lives in one sequence more than there are slots."""
    memory, vocab_size = llama.llama_get_memory(context), llama.llama_vocab_n_tokens(vocab)
    batch, waiting, running = Batch(options.batch), collections.deque(rows), []
    free = list(range(options.slots))
    shared = common_prefix([row.tokens for row in rows])
    for start in range(0, shared, options.batch):
        part = rows[0].tokens[start : min(start + options.batch, shared)]
        batch.add(part, start, options.slots, 0)
        batch.decode(context)
    while waiting or running:
        while waiting and free:
            row = waiting.popleft()
            row.slot = free.pop()
            if shared:
                row.done = min(shared, row.num_prompt - 1)
                llama.llama_memory_seq_cp(memory, options.slots, row.slot, 0, row.done)
            running.append(row)
        wanted = []
        for row in sorted(running, key=lambda row: len(row.tokens) - row.done):
            room = options.batch - batch.count
            part = row.tokens[row.done : row.done + room]
            if not part:
                continue
            ends = row.done + len(part) == len(row.tokens)
            place = batch.add(part, row.done, row.slot, ends)
            row.done += len(part)
            if ends:
                wanted.append((row, place))
        batch.decode(context)
        for row, place in wanted:
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, place), (vocab_size,))
            token = choose(row, logits)
            row.tokens.append(token)
            stops = not row.ignore_eos and llama.llama_vocab_is_eog(vocab, token)
            if stops or row.num_answer() >= row.max_tokens:
                llama.llama_memory_seq_rm(memory, row.slot, -1, -1)
                free.append(row.slot)
                running.remove(row)


def open_context(model, rows, options):
    longest = sorted((row.num_prompt + row.max_tokens for row in rows), reverse=True)
    params = llama.llama_context_default_params()
    params.n_ctx = (sum(longest[: options.slots]) + 1024 + 255) // 256 * 256
    params.n_batch = params.n_ubatch = options.batch
    params.n_seq_max, params.kv_unified = options.slots + 1, True
    params.n_threads = params.n_threads_batch = options.threads
    params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    return llama.llama_init_from_model(model, params)


def main():
    options = arguments()
    llama.llama_log_set(SILENT, None)
    llama.llama_backend_init()
    started = time.perf_counter()
    model = llama.llama_model_load_from_file(options.model.encode(), llama.llama_model_default_params())
    vocab = llama.llama_model_get_vocab(model)
    with open(options.input, encoding="utf-8") as lines:
        bodies = [json.loads(line)["body"] for line in lines][: options.rows]
    loaded = time.perf_counter()
    rows = [Row(tokenize(vocab, rendered(body["messages"])), body, vocab) for body in bodies]
    context = open_context(model, rows, options)
    begun = time.perf_counter()
    run(context, vocab, rows, options)
    ended = time.perf_counter()
    print(json.dumps({
        "elapsed_seconds": ended - begun,
        "load_seconds": loaded - started,
        "prompt_tokens": sum(row.num_prompt for row in rows),
        "generated_tokens": sum(row.num_answer() for row in rows),
    }))


if __name__ == "__main__":
    main()
