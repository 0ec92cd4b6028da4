#!/usr/bin/env bash
# A real Label Studio on a free port of the loopback interface, without outside traffic, for the tests of the review side.
#
#   scripts/start_label_studio.sh [start] [--lenient] [--dir DIR]    prints url=…, token=…, pid=… and env=…
#   scripts/start_label_studio.sh stop [--dir DIR]
#   scripts/start_label_studio.sh install [--dir DIR]
#
# Label Studio is installed on first use into DIR/venv (80 s, 1 GB), with its data in DIR/data; DIR is by default
# ~/.cache/vllm_batch/label-studio. The first start takes 30 s, later ones 4 s. It checks predictions strictly unless --lenient is given.
set -euo pipefail

VERSION=1.23.2
action=start strict=true dir="${XDG_CACHE_HOME:-$HOME/.cache}/vllm_batch/label-studio"
while (($#)); do
    case "$1" in
        start | stop | install) action="$1" ;;
        --lenient) strict=false ;;
        --dir) dir="${2:?--dir needs a folder}" && shift ;;
        *) echo "unknown argument: $1" >&2 && exit 2 ;;
    esac
    shift
done
venv="$dir/venv" data="$dir/data" log="$dir/server.log" pid_file="$dir/server.pid"

stop() {
    [[ -f "$pid_file" ]] || return 0
    local pid
    pid="$(cat "$pid_file")"
    if kill "$pid" 2>/dev/null; then
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
    fi
    rm -f "$pid_file"
}

if [[ "$action" != install ]]; then
    stop
fi
[[ "$action" != stop ]] || exit 0

mkdir -p "$data"
if [[ ! -x "$venv/bin/label-studio" ]]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --no-cache-dir "label-studio==$VERSION" >&2
fi
[[ "$action" != install ]] || exit 0

# A port that is taken would be passed over silently for the next one.
port="$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
token=0123456789abcdef0123456789abcdef01234567
export LABEL_STUDIO_BASE_DATA_DIR="$data"
export LABEL_STUDIO_USERNAME=admin@localhost.local LABEL_STUDIO_PASSWORD=only-for-tests-1
export LABEL_STUDIO_USER_TOKEN="$token" LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true
export LABEL_STUDIO_COLLECT_ANALYTICS=false LABEL_STUDIO_LATEST_VERSION_CHECK=false
export LABEL_STUDIO_SENTRY_DSN='' LABEL_STUDIO_FRONTEND_SENTRY_DSN=''
# Webhooks to the loopback interface are refused otherwise.
export LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false
export LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK=true
export fflag_feat_utc_210_prediction_validation_15082025="$strict"
nohup "$venv/bin/label-studio" start --no-browser --internal-host 127.0.0.1 --port "$port" --data-dir "$data" \
    --log-level WARNING --enable-legacy-api-token >"$log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$pid_file"

for _ in $(seq 600); do
    if "$venv/bin/python" -c "import urllib.request as r; r.urlopen('http://127.0.0.1:$port/health', timeout=5)" 2>/dev/null; then
        printf 'url=http://127.0.0.1:%s\ntoken=%s\npid=%s\nenv=%s\n' "$port" "$token" "$pid" "$data/.env"
        exit 0
    fi
    if ! kill -0 "$pid" 2>/dev/null; then
        break
    fi
    sleep 0.2
done
echo "Label Studio did not start; its last words:" >&2
tail -n 20 "$log" >&2
stop
exit 1
