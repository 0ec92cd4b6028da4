#!/usr/bin/env bash
# Tests what is made for Label Studio, what is read from it, and the client, against a real server on the loopback interface: once as
# it comes, which checks no predictions, and once strict.
# Arguments go to scripts/start_label_studio.sh: --dir DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo test --release --test curate --test label_studio --no-run
trap 'scripts/start_label_studio.sh stop "$@"' EXIT
for mode in --lenient ''; do
    # shellcheck disable=SC2086 # An empty mode is none.
    started="$(scripts/start_label_studio.sh start $mode "$@")"
    VLLM_BATCH_LABEL_STUDIO_URL="$(sed -n 's/^url=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_TOKEN="$(sed -n 's/^token=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_PID="$(sed -n 's/^pid=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_START="scripts/start_label_studio.sh start $mode $*"
    export VLLM_BATCH_LABEL_STUDIO_URL VLLM_BATCH_LABEL_STUDIO_TOKEN VLLM_BATCH_LABEL_STUDIO_PID VLLM_BATCH_LABEL_STUDIO_START
    # One at a time: imports on SQLite get into each other's way.
    cargo test --release --test curate label_studio -- --ignored --test-threads 1
    cargo test --release --test label_studio real:: -- --ignored --test-threads 1 --skip last_
    cargo test --release --test label_studio real::last_ -- --ignored
done
