#!/usr/bin/env bash
# The lock-free parts under ThreadSanitizer and AddressSanitizer, the ring under loom, and miri where it is installed.
#
#     tests/sanitizers.sh [thread|address|loom|miri]...     all of them without an argument
#
# Needs a nightly toolchain for all but loom. The standard library is not instrumented: it comes prebuilt.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(thread address loom miri)

for part in "${parts[@]}"; do
    echo "== $part"
    case $part in
    thread | address)
        RUSTFLAGS="-Zsanitizer=$part -Cunsafe-allow-abi-mismatch=sanitizer" ASAN_OPTIONS=detect_leaks=0 \
            cargo +nightly test -p chronotick-host --no-default-features --lib --target $target \
            --target-dir "target/sanitize-$part" -- shm:: link::
        ;;
    loom)
        RUSTFLAGS="--cfg loom" cargo test -p chronotick-host --no-default-features --lib \
            --target-dir target/loom -- loom
        ;;
    miri)
        if cargo +nightly miri --version >/dev/null 2>&1; then
            cargo +nightly miri test -p chronotick-host --no-default-features --lib --target-dir target/miri -- shm::ring
        else
            echo "skipped: this toolchain has no miri (rustup component add miri --toolchain nightly)"
        fi
        ;;
    *)
        echo "unknown: $part (thread, address, loom, miri)" >&2
        exit 2
        ;;
    esac
done
