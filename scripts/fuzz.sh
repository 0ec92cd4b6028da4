#!/usr/bin/env bash
# Fuzzes one target for some seconds, starting from the lines of the test data.
#
# Usage: scripts/fuzz.sh TARGET [SECONDS]        (targets: vllm_batch/fuzz/fuzz_targets)
# Needs a nightly toolchain, a C++ compiler and cargo-fuzz (`cargo install cargo-fuzz --locked`). No sanitizer: what the
# targets run has no unsafe code of its own, and without one they are several times as fast.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../vllm_batch"

target=$1
seconds=${2:-600}
seeds=fuzz/corpus/$target
mkdir -p "$seeds"
case $target in
    batch_line | request_lowering)
        # One file a line: batch lines under the model's name that the targets serve, and each schema in a line of its own.
        head='{"custom_id":"s","method":"POST","url":"/v1/completions","body":{"model":"tiny","prompt":"a","structured_outputs":{"json":'
        {
            sed -E 's/"model": ?"[^"]*"/"model": "tiny"/' tests/data/batch/*input.jsonl tests/data/structured_requests.jsonl
            sed -e "s|^|$head|" -e 's|$|}}}|' tests/data/schemas/valid.jsonl
        } |
            split --lines 1 --suffix-length 4 --additional-suffix .json - "$seeds/line-"
        ;;
esac
cargo +nightly fuzz run --sanitizer none --fuzz-dir fuzz "$target" -- \
    -dict=fuzz/dictionaries/request.dict "-max_total_time=$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=16384 -print_final_stats=1
