#!/usr/bin/env bash
# Tests the remote engine against a real server: llama-cpp-python's, on loopback, with the demo model.
#
# The server lives in a virtual environment outside the repository. It is made on the first run, which compiles llama.cpp
# for some minutes and needs a C++ compiler; VLLM_BATCH_LLAMA_VENV names another one. The demo model must be in the cache:
# any example or test that uses it fetches it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/vllm_batch"
readonly VENV="${VLLM_BATCH_LLAMA_VENV:-$CACHE/llama-cpp-python}"
readonly MODEL="$CACHE/SmolLM2-135M-Instruct.Q4_1.gguf"
readonly PORT="${VLLM_BATCH_LLAMA_PORT:-18765}"
readonly URL="http://127.0.0.1:$PORT/v1"
server=

if [[ ! -f "$MODEL" ]]; then
    echo "$MODEL is missing: cargo run --release --example quickstart fetches it" >&2
    exit 1
fi
if [[ ! -x "$VENV/bin/python" ]]; then
    python3 -m venv "$VENV"
fi
if ! "$VENV/bin/python" -c 'import llama_cpp.server.app' 2>/dev/null; then
    "$VENV/bin/python" -m pip install --quiet 'llama-cpp-python[server]==0.3.36'
fi
cargo test --release --test remote --no-run

log=$(mktemp)
stop() {
    if [[ -n "$server" ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -f "$log"
}
trap stop EXIT

"$VENV/bin/python" -m llama_cpp.server --model "$MODEL" --host 127.0.0.1 --port "$PORT" --n_ctx 2048 >"$log" 2>&1 &
server=$!
for _ in {1..120}; do
    if "$VENV/bin/python" -c "import urllib.request as r; r.urlopen('$URL/models', timeout=2)" 2>/dev/null; then
        break
    fi
    if ! kill -0 "$server" 2>/dev/null; then
        tail -n 40 "$log" >&2
        exit 1
    fi
    sleep 1
done

VLLM_BATCH_TEST_SERVER="$URL" cargo test --release --test remote -- --ignored --test-threads 1 real_server
