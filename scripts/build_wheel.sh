#!/usr/bin/env bash
# Builds the Python wheel and says where it is. Needs cargo and python3 with pip, which fetches maturin (and, for
# --manylinux, zig as a linker).
#
#   scripts/build_wheel.sh [--manylinux] [FOLDER]
#
# The wheel is for Python 3.10 and later (abi3). Without --manylinux it runs on Linux with this machine's glibc or a newer one;
# with it, on glibc 2.17 or newer, which every distribution since 2014 has. FOLDER is target/wheels by default. Exits with 3
# where maturin cannot be fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly MATURIN_VERSION=1.16.0
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_DIR
readonly TOOLS="$CARGO_TARGET_DIR/tools/maturin-$MATURIN_VERSION"

packages=("maturin==$MATURIN_VERSION")
options=(--compatibility linux)
if [[ ${1:-} == --manylinux ]]; then
    packages=("maturin[zig]==$MATURIN_VERSION")
    options=(--compatibility manylinux2014 --zig)
    shift
fi
folder=${1:-$CARGO_TARGET_DIR/wheels}

python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade \
    --target "$TOOLS" --only-binary :all: "${packages[@]}" || exit 3
PYTHONPATH="$TOOLS" PATH="$TOOLS/bin:$PATH" maturin build --release --locked --manifest-path vllm_batch-py/Cargo.toml \
    --out "$folder" "${options[@]}"
