#!/usr/bin/env bash
# Tests the real server on the demo model with OpenAI's own Python client, then with requests that schemathesis makes up from
# the description of the interface: nothing they do may be a fault of the server, and no answer may differ from its description.
#
# Usage: scripts/test_http.sh PYTHON [--examples N] [--log FILE]
# PYTHON has the packages of .ci/http.txt. N is how many requests are made up for each operation (30).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="$(realpath --no-symlinks "${1:?the python that has openai and schemathesis}")" && shift
examples=30 log=
while (($#)); do
    case "$1" in
        --examples) examples="${2:?--examples needs a number}" && shift ;;
        --log) log="${2:?--log needs a file}" && shift ;;
        *) echo "unknown argument: $1" >&2 && exit 2 ;;
    esac
    shift
done
readonly KEY=test-key-0123456789

# As the tests build it: built alone, its dependencies would have other features.
cargo test --release --locked --workspace --no-run
server="$(realpath "${CARGO_TARGET_DIR:-target}")/release/vllm_batch-http"
data="$(mktemp -d)"
log="$(realpath "${log:-$data/log}")"
hash="$(printf '%s' "$KEY" | sha256sum | cut -d ' ' -f 1)"
printf '[auth]\nkeys = [{ name = "test", sha256 = "%s" }]\n\n[curation]\nallow_register = true\n' "$hash" >"$data/config.toml"
port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
url="http://127.0.0.1:$port"
"$server" serve --config "$data/config.toml" --host 127.0.0.1 --port "$port" --data "$data" >"$log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null || true; rm -rf "$data"' EXIT
for ((attempt = 0; ; attempt++)); do
    if "$python" -c 'import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=5)' "$url/ready" 2>/dev/null; then
        break
    elif ((attempt == 600)) || ! kill -0 "$pid" 2>/dev/null; then
        echo 'the server did not start; its last words:' >&2
        tail -n 20 "$log" >&2
        exit 1
    fi
    sleep 0.2
done

model="$("$python" -c 'import json, sys, urllib.request as r
q = r.Request(sys.argv[1] + "/v1/models", headers={"authorization": "Bearer " + sys.argv[2]})
print(json.load(r.urlopen(q))["data"][0]["id"])' "$url" "$KEY")"
"$python" scripts/check_openai_client.py "$url" "$KEY" "$model"

# It keeps a cache where it is started.
cd "$data"
"${python%/*}/schemathesis" run "$url/openapi.json" --url "$url" --header "Authorization: Bearer $KEY" \
    --max-examples "$examples" --phases examples,coverage,fuzzing --request-timeout 60 --seed 1 --no-color \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
if grep -E 'panicked|ERROR' "$log"; then
    echo 'faults of the server are in its log' >&2
    exit 1
fi
