"""Compares greedy answers of this crate with those of llama.cpp, both in f32, for any GGUF file.

llama.cpp quantises activations where weights are quantised; so the file is widened to f32 for it first, beside the other
one, and that copy is removed at the end. What still differs are ties.

pip install llama-cpp-python==0.3.36; python scripts/compare_llama_cpp.py model.gguf
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import llama_cpp

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "def fibonacci(n):\n",
    "Die Hauptstadt von Deutschland ist",
    "1, 2, 3, 4, 5,",
    "  indented text 日本語 and émigré: ",
    " ".join(f"Item {i} costs {i * 3} euros." for i in range(1, 90)) + " Item 90 costs",
]
MAX_TOKENS = 24
ROOT = pathlib.Path(__file__).parents[1]


def ours(model, folder):
    requests, answers = folder / "in.jsonl", folder / "out.jsonl"
    rows = [
        {
            "custom_id": str(i),
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "model", "prompt": prompt, "max_tokens": MAX_TOKENS, "temperature": 0},
        }
        for i, prompt in enumerate(PROMPTS)
    ]
    requests.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["cargo", "run", "--quiet", "--release", "--example", "run_batch", "--"]
    command += ["--model", str(model), "--served-model-name", "model", "-i", str(requests), "-o", str(answers)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    bodies = {row["custom_id"]: row["response"]["body"] for row in map(json.loads, answers.open())}
    return [bodies[str(i)]["choices"][0]["text"] for i in range(len(PROMPTS))]


def theirs(model, folder):
    wide = folder / "f32.gguf"
    params = llama_cpp.llama_model_quantize_default_params()
    params.allow_requantize, params.ftype = True, llama_cpp.LLAMA_FTYPE_ALL_F32
    if llama_cpp.llama_model_quantize(str(model).encode(), str(wide).encode(), params) != 0:
        sys.exit("llama.cpp cannot widen the file")
    f32 = llama_cpp.GGML_TYPE_F32
    llama = llama_cpp.Llama(str(wide), n_ctx=2048, type_k=f32, type_v=f32, verbose=False)
    answers = [llama.create_completion(prompt, max_tokens=MAX_TOKENS, temperature=0.0) for prompt in PROMPTS]
    return [answer["choices"][0]["text"] for answer in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path)
    model = parser.parse_args().model.resolve()
    with tempfile.TemporaryDirectory(dir=model.parent) as folder:
        pairs = list(zip(ours(model, pathlib.Path(folder)), theirs(model, pathlib.Path(folder)), strict=True))
    for prompt, (mine, other) in zip(PROMPTS, pairs, strict=True):
        print(f"{'equal' if mine == other else 'DIFFERENT'}: {prompt[-40:]!r} -> {mine!r}")
        if mine != other:
            print(f"  llama.cpp: {other!r}")
    sys.exit(any(mine != other for mine, other in pairs))


main()
