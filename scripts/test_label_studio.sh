#!/usr/bin/env bash
# Tests what is made for Label Studio, what is read from it, and the client, against a real server on the loopback interface: once as
# it comes, which checks no predictions, and once strict. Then the example `curate` brings mails there, they are reviewed, and it writes
# a training file.
#
# Arguments go to scripts/start_label_studio.sh: --dir DIR. With VLLM_BATCH_EXPORTS_PYTHON, a Python with `datasets` and TRL, what was
# reviewed is loaded by those as training data.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# One build for all: compiled apart, the example would have other features.
cargo test --release --workspace --no-run
VLLM_BATCH_LABEL_STUDIO_WORK="$(mktemp -d)"
trap 'scripts/start_label_studio.sh stop "$@"; rm -rf "$VLLM_BATCH_LABEL_STUDIO_WORK"' EXIT
for mode in --lenient ''; do
    # shellcheck disable=SC2086 # An empty mode is none.
    started="$(scripts/start_label_studio.sh start $mode "$@")"
    VLLM_BATCH_LABEL_STUDIO_URL="$(sed -n 's/^url=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_TOKEN="$(sed -n 's/^token=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_PID="$(sed -n 's/^pid=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_ENV="$(sed -n 's/^env=//p' <<<"$started")"
    VLLM_BATCH_LABEL_STUDIO_START="scripts/start_label_studio.sh start $mode $*"
    export VLLM_BATCH_LABEL_STUDIO_WORK VLLM_BATCH_LABEL_STUDIO_URL VLLM_BATCH_LABEL_STUDIO_TOKEN
    export VLLM_BATCH_LABEL_STUDIO_PID VLLM_BATCH_LABEL_STUDIO_ENV VLLM_BATCH_LABEL_STUDIO_START
    # One at a time: imports on SQLite get into each other's way.
    cargo test --release --workspace --test curate label_studio -- --ignored --test-threads 1
    cargo test --release --workspace --test label_studio real:: -- --ignored --test-threads 1 --skip last_
    if [[ -n "${VLLM_BATCH_EXPORTS_PYTHON:-}" ]]; then
        "$VLLM_BATCH_EXPORTS_PYTHON" scripts/check_exports.py "$VLLM_BATCH_LABEL_STUDIO_WORK/exports" --partial --require datasets,trl
    fi
    if [[ -z "$mode" ]]; then
        folder="$VLLM_BATCH_LABEL_STUDIO_WORK/curated"
        curate=("${CARGO_TARGET_DIR:-target}/release/examples/curate" "$folder")
        curate+=("$VLLM_BATCH_LABEL_STUDIO_URL" "$VLLM_BATCH_LABEL_STUDIO_TOKEN")
        said="$("${curate[@]}")" && echo "$said"
        project="$(sed -n 's|.*/projects/\([0-9]*\):.*|\1|p' <<<"$said")"
        python3 scripts/accept_suggestions.py "$VLLM_BATCH_LABEL_STUDIO_URL" "$VLLM_BATCH_LABEL_STUDIO_TOKEN" "$project"
        said="$("${curate[@]}")" && echo "$said"
        mails="$(grep -c . examples/data/mails.jsonl)"
        [[ "$said" == *"train.jsonl: $mails rows of $mails reviewed mails"* && "$(grep -c . "$folder/train.jsonl")" == "$mails" ]]
        curl --silent --show-error --fail --request DELETE --header "Authorization: Token $VLLM_BATCH_LABEL_STUDIO_TOKEN" \
            "$VLLM_BATCH_LABEL_STUDIO_URL/api/projects/$project/"
    fi
    cargo test --release --workspace --test label_studio real::last_ -- --ignored
done
