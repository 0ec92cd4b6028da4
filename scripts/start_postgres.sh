#!/usr/bin/env bash
# A PostgreSQL server for tests, on a free port of the loopback interface and a socket, which trusts whoever connects.
#
#   scripts/start_postgres.sh [start] [--dir DIR]    prints url=…, socket=… and pid=…
#   scripts/start_postgres.sh stop [--dir DIR]
#   scripts/start_postgres.sh install
#
# Its data are in DIR, by default a folder in $TMPDIR, and are thrown away by start and stop. Nothing is synced to the disk: a power
# cut may take it all. Debian's package postgresql is installed where there is no server. A server never runs as root: root
# starts it as the user postgres, or as nobody.
set -euo pipefail

action=start dir="${TMPDIR:-/tmp}/vllm_batch-postgres-$UID"
while (($#)); do
    case "$1" in
        start | stop | install) action="$1" ;;
        --dir) dir="${2:?--dir needs a folder}" && shift ;;
        *) echo "unknown argument: $1" >&2 && exit 2 ;;
    esac
    shift
done

# Prints the folder of the newest server that is installed.
find_server() {
    local folder
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort --reverse) "$(dirname "$(command -v initdb)")"; do
        if [[ -x "$folder/initdb" && -x "$folder/postgres" ]]; then
            printf '%s' "$folder"
            return 0
        fi
    done
    return 1
}

# Runs a command as somebody who may run a server.
as_user() {
    if ((UID != 0)); then
        "$@"
    elif id postgres &>/dev/null; then
        setpriv --reuid postgres --regid postgres --clear-groups -- "$@"
    else
        setpriv --reuid nobody --regid nogroup --clear-groups -- "$@"
    fi
}

if [[ "$action" != stop ]] && ! find_server >/dev/null; then
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2 || {
        echo 'there is no PostgreSQL, and it cannot be installed from here (on Debian: apt-get install postgresql)' >&2
        exit 1
    }
fi
[[ "$action" != install ]] || exit 0

data="$dir/data"
if [[ -f "$data/postmaster.pid" ]]; then
    server="$(find_server)"
    cd / && as_user "$server/pg_ctl" stop --silent --pgdata "$data" --mode immediate >&2 || true
fi
rm -rf "$data"
[[ "$action" != stop ]] || exit 0

server="$(find_server)"
mkdir -p "$data"
if ((UID == 0)); then
    chown "$(as_user id -un):$(as_user id -gn)" "$dir" "$data"
fi
# Where it is started, the user may not be allowed to be.
cd /
as_user "$server/initdb" --pgdata "$data" --username postgres --auth trust --encoding UTF8 --locale C --no-sync >"$dir/initdb.log" ||
    { cat "$dir/initdb.log" >&2 && exit 1; }
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
as_user "$server/pg_ctl" start --silent --wait --pgdata "$data" --log "$data/server.log" --options \
    "-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories=$data -c fsync=off -c max_connections=200" ||
    { cat "$data/server.log" >&2 && exit 1; }
printf 'url=postgres://postgres@127.0.0.1:%s/postgres\nsocket=%s\npid=%s\n' "$port" "$data" "$(head -n 1 "$data/postmaster.pid")"
