#!/usr/bin/env bash
# The tests of jobs on a real PostgreSQL: the contract of all stores, and whatever else needs a server that processes share.
#
#   scripts/test_postgres.sh [OPTIONS OF cargo test]
#
# Starts a server, and stops it in the end. Fails if the contract was not run on it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

dir="$(mktemp --directory)"
chmod 755 "$dir"
trap 'scripts/start_postgres.sh stop --dir "$dir" && rm -rf "$dir"' EXIT
started="$(scripts/start_postgres.sh start --dir "$dir")"
VLLM_BATCH_TEST_POSTGRES="$(sed -n 's/^url=//p' <<<"$started")"
export VLLM_BATCH_TEST_POSTGRES

cargo test --release --workspace --test job_store "$@" -- --include-ignored | tee "$dir/tests.log"
cargo test --release --workspace --test jobs "$@" postgresql | tee --append "$dir/tests.log"
cargo test --release --workspace --lib "$@" pipeline::tasks | tee --append "$dir/tests.log"
if ! grep --quiet '^test postgres_keeps_to_the_contract \.\.\. ok$' "$dir/tests.log" ||
    ! grep --quiet '^test .*_in_postgresql \.\.\. ok$' "$dir/tests.log" ||
    ! grep --quiet '^test pipeline::tasks::tests::events::.* \.\.\. ok$' "$dir/tests.log"; then
    echo 'the tests did not reach PostgreSQL' >&2
    exit 1
fi
