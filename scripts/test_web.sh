#!/usr/bin/env bash
# Tests the web page in a real Chromium against the real server with the demo model: a file is submitted and watched, records are
# reviewed by keys alone and exported; every view is checked for accessibility in light and dark, and its types are checked.
#
# Usage: scripts/test_web.sh [--install] [--tools DIR] [--screenshots DIR]
# Needs node, npm and Chromium, and playwright-core, axe-core and typescript in DIR (~/.cache/vllm_batch/web), none of which is part
# of the page. Says what is missing, and then ends with status 3. With --install it first tries to get it: as root on Debian,
# Chromium with apt-get; the rest with npm. Pictures of all views go to the folder for screenshots (target/web).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PACKAGES=(playwright-core@1.65.1 axe-core@4.14.1 typescript@5.9.3)
readonly STATUS_MISSING=3
tools="${XDG_CACHE_HOME:-$HOME/.cache}/vllm_batch/web" screenshots="${CARGO_TARGET_DIR:-target}/web" install=false
while (($#)); do
    case "$1" in
        --install) install=true ;;
        --tools) tools="${2:?--tools needs a folder}" && shift ;;
        --screenshots) screenshots="${2:?--screenshots needs a folder}" && shift ;;
        *) echo "unknown argument: $1" >&2 && exit 2 ;;
    esac
    shift
done

has_packages() {
    [[ "$(cat "$tools/installed.txt" 2>/dev/null)" == "${PACKAGES[*]}" ]]
}

# What cannot be installed shows in the checks after it.
install() {
    local missing=()
    command -v chromium >/dev/null || missing+=(chromium)
    command -v npm >/dev/null || missing+=(nodejs npm)
    if ((${#missing[@]} > 0 && EUID == 0)) && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}" ||
            { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends "${missing[@]}"; } || true
    fi
    if ! has_packages && command -v npm >/dev/null; then
        mkdir -p "$tools"
        if npm install --prefix "$tools" --no-save --no-audit --no-fund --ignore-scripts --silent "${PACKAGES[@]}"; then
            echo "${PACKAGES[*]}" >"$tools/installed.txt"
        fi
    fi
}

check() {
    local status=0
    if ! command -v node >/dev/null || ! command -v chromium >/dev/null; then
        echo 'missing: node or Chromium (on Debian: apt-get install nodejs npm chromium)' >&2
        status=$STATUS_MISSING
    fi
    if ! has_packages; then
        echo "missing: npm install --prefix $tools --no-save ${PACKAGES[*]}" >&2
        status=$STATUS_MISSING
    fi
    return "$status"
}

if "$install"; then
    install
fi
check

node "$tools/node_modules/typescript/bin/tsc" --project vllm_batch-http/tests/web/tsconfig.json

# As the tests build it: built alone, its dependencies would have other features.
cargo test --release --locked --workspace --no-run
data="$(mktemp -d)"
port="$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')"
"${CARGO_TARGET_DIR:-target}/release/vllm_batch-http" serve --host 127.0.0.1 --port "$port" --data "$data" \
    --set curation.schemas=vllm_batch-http/tests/web/schemas >"$data/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$data"' EXIT
for ((attempt = 0; ; attempt++)); do
    if node -e 'fetch(process.argv[1]).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))' "http://127.0.0.1:$port/ready"; then
        break
    elif ((attempt == 600)) || ! kill -0 "$server" 2>/dev/null; then
        echo 'the server did not start; its last words:' >&2
        tail -n 20 "$data/log" >&2
        exit 1
    fi
    sleep 0.2
done

WEB_SERVER="http://127.0.0.1:$port" WEB_TOOLS="$(realpath "$tools")" WEB_CHROMIUM="$(command -v chromium)" \
    WEB_SCREENSHOTS="$(realpath -m "$screenshots")" node --test --test-concurrency 1 vllm_batch-http/tests/web/
