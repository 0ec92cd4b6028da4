#!/usr/bin/env bash
# Tests what is made for Label Studio, and what is read from it, against a real server on the loopback interface.
# Arguments go to scripts/start_label_studio.sh: --lenient, --dir DIR.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo test --release --test curate --no-run
trap 'scripts/start_label_studio.sh stop "$@"' EXIT
started="$(scripts/start_label_studio.sh start "$@")"
VLLM_BATCH_LABEL_STUDIO_URL="$(sed -n 's/^url=//p' <<<"$started")" \
    VLLM_BATCH_LABEL_STUDIO_TOKEN="$(sed -n 's/^token=//p' <<<"$started")" \
    cargo test --release --test curate label_studio -- --ignored
