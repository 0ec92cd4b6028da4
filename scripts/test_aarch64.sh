#!/usr/bin/env bash
# Tests the kernels of 64-bit Arm on another machine: compiled across, run under qemu's emulation of two processors. One has
# every instruction set that kernels are compiled for; the other, of 2016, has no dot products of bytes.
#
# Usage: scripts/test_aarch64.sh [--install] [TEST FILTER...]        (default: kernels::)
# Needs the toolchain's standard library for 64-bit Arm, a C and C++ compiler for it, and qemu's user-mode emulator. Says how
# to get what is missing, and then ends with status 3. With --install it first tries to get it: the library with rustup, and,
# as root on Debian, the rest with apt-get.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly TARGET=aarch64-unknown-linux-gnu
readonly SYSROOT=/usr/aarch64-linux-gnu
readonly PACKAGES=(qemu-user gcc-aarch64-linux-gnu g++-aarch64-linux-gnu libc6-dev-arm64-cross)
readonly STATUS_MISSING=3

has_rust() {
    compgen -G "$(rustc --print sysroot)/lib/rustlib/$TARGET/lib/libstd-*.rlib" >/dev/null
}

has_tools() {
    local tool
    for tool in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64; do
        command -v "$tool" >/dev/null || return 1
    done
    [[ -e "$SYSROOT/lib/libc.so.6" ]]
}

# What cannot be installed shows in the checks after it.
install() {
    has_rust || rustup target add "$TARGET" || true
    if ! has_tools && ((EUID == 0)) && command -v apt-get >/dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet "${PACKAGES[@]}" ||
            { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet "${PACKAGES[@]}"; } || true
    fi
}

check() {
    local status=0
    if ! has_rust; then
        echo "missing: Rust's standard library for 64-bit Arm (rustup target add $TARGET)" >&2
        status=$STATUS_MISSING
    fi
    if ! has_tools; then
        echo "missing: compiler, C library or emulator for 64-bit Arm (on Debian: apt-get install ${PACKAGES[*]})" >&2
        status=$STATUS_MISSING
    fi
    return "$status"
}

# Runs tests of the library on a processor that qemu knows.
run() {
    local cpu=$1
    shift
    printf '\n-- %s: %s\n' "$cpu" "$*"
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L $SYSROOT" \
        cargo test --release --locked --target "$TARGET" --package vllm_batch --no-default-features --lib -- "$@"
}

# Runs the ignored test of this name, which says what the processor has, and makes sure that it ran.
run_processor_test() {
    local output
    output=$(run "$1" --ignored --exact "kernels::isa::tests::$2")
    printf '%s\n' "$output"
    grep -q '^test result: ok. 1 passed' <<<"$output"
}

if [[ "${1-}" == --install ]]; then
    shift
    install
fi
check

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++
filters=("$@")
if ((${#filters[@]} == 0)); then
    filters=(kernels::)
fi
run_processor_test max a_processor_with_everything_has_all_instruction_sets
run max "${filters[@]}"
run_processor_test cortex-a72 a_processor_without_dot_products_has_neon
run cortex-a72 "${filters[@]}"
