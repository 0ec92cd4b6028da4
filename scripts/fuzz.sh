#!/usr/bin/env bash
# Fuzzes one target for some seconds, starting from the test data.
#
# Usage: scripts/fuzz.sh TARGET [SECONDS]        (targets: vllm_batch/fuzz/fuzz_targets)
# Needs a nightly toolchain, a C++ compiler and cargo-fuzz (`cargo install cargo-fuzz --locked`); python3 for the targets that
# load models. No sanitizer: without one, they are several times as fast, and of this crate's code only the kernels have
# unsafe blocks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../vllm_batch"

target=$1
seconds=${2:-600}
seeds=fuzz/corpus/$target
mkdir -p "$seeds"
dictionary=model rss_limit=1024
case $target in
    batch_line | request_lowering)
        dictionary=request rss_limit=4096
        # One file a line: batch lines under the model's name that the targets serve, and each schema in a line of its own.
        head='{"custom_id":"s","method":"POST","url":"/v1/completions","body":{"model":"tiny","prompt":"a","structured_outputs":{"json":'
        {
            sed -E 's/"model": ?"[^"]*"/"model": "tiny"/' tests/data/batch/*input.jsonl tests/data/structured_requests.jsonl
            sed -e "s|^|$head|" -e 's|$|}}}|' tests/data/schemas/valid.jsonl
        } |
            split --lines 1 --suffix-length 4 --additional-suffix .json - "$seeds/line-"
        ;;
    *) python3 fuzz/make_seeds.py "$target" "$seeds" ;;
esac
# A model's files are far smaller than the limit: whoever takes more memory believed a length.
cargo +nightly fuzz run --sanitizer none --fuzz-dir fuzz "$target" -- "-dict=fuzz/dictionaries/$dictionary.dict" \
    "-max_total_time=$seconds" -timeout=20 "-rss_limit_mb=$rss_limit" -max_len=16384 -print_final_stats=1
