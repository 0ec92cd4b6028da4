"""Writes vllm_batch/tests/data/gemma3_reference.jsonl: greedy answers of Gemma 3 270M by llama.cpp, in f32.

llama.cpp quantises activations where weights are quantised; so the Q4_K_M file is widened to f32 for it first. Each line has
a prompt, its token ids, greedy tokens, and by how much the best logit of each step is above the second.

pip install llama-cpp-python==0.3.36 numpy; python scripts/make_gemma3_reference.py gemma-3-270m-q4_k_m.gguf
"""

import json
import pathlib
import sys
import tempfile

import llama_cpp
import numpy

TOKENS = 16
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "def fibonacci(n):\n",
    "The three primary colors are",
    "Die Hauptstadt von Deutschland ist",
    "1, 2, 3, 4, 5,",
    "  indented text 日本語 and émigré: ",
    # Longer than the window of 512 tokens.
    " ".join(f"Item {i} costs {i * 3} euros." for i in range(1, 60)) + " Item 60 costs",
]
OUTPUT = pathlib.Path(__file__).parents[1] / "vllm_batch" / "tests" / "data" / "gemma3_reference.jsonl"


def widened(model, folder):
    wide = pathlib.Path(folder) / "f32.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, llama_cpp.LLAMA_FTYPE_ALL_F32
    if llama_cpp.llama_model_quantize(model.encode(), str(wide).encode(), params) != 0:
        sys.exit("llama.cpp cannot widen the file")
    return str(wide)


def answer(llama, prompt):
    ids = llama.tokenize(prompt.encode(), add_bos=True, special=True)
    llama.reset()
    llama.eval(ids)
    greedy, margins = [], []
    for _ in range(TOKENS):
        logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), (llama.n_vocab(),))
        second, best = numpy.argpartition(logits, -2)[-2:]
        if logits[second] > logits[best]:
            second, best = best, second
        greedy.append(int(best))
        margins.append(round(float(logits[best] - logits[second]), 5))
        llama.eval([greedy[-1]])
    return {"prompt": prompt, "prompt_token_ids": ids, "greedy": greedy, "margins": margins}


with tempfile.TemporaryDirectory() as folder:
    f32 = llama_cpp.GGML_TYPE_F32
    llama = llama_cpp.Llama(widened(sys.argv[1], folder), n_ctx=2048, type_k=f32, type_v=f32, flash_attn=False, verbose=False)
    lines = [json.dumps(answer(llama, prompt), ensure_ascii=False) for prompt in PROMPTS]
    OUTPUT.write_text("\n".join(lines) + "\n")
