#!/usr/bin/env bash
# usage: tests/sanitizers/run.sh [thread|address|miri ...]   (default: all three)
#
# The clock page's tests (tests/page.rs) under ThreadSanitizer and AddressSanitizer, and the record's under miri. Needs a nightly
# toolchain; builds into target/sanitizers. The standard library is not instrumented (that needs rust-src), hence the suppressions.
set -uo pipefail
cd "$(dirname "$0")"
target=../../target/sanitizers
host=$(rustc -vV | sed -n 's/^host: //p')
status=0
cargo +nightly --version >/dev/null 2>&1 || { echo "skipped: no nightly toolchain (rustup toolchain install nightly)"; exit 0; }

suppressions=$(mktemp)
trap 'rm -f "$suppressions"' EXIT
# The reader in the container is another user.
chmod 644 "$suppressions"
# The test harness and thread start-up of the standard library, which is not instrumented.
printf '%s\n' 'race:std::rt' 'race:std::thread' 'race:test::' 'race:std::sync::mpmc' >"$suppressions"

kinds=("$@")
[ $# -gt 0 ] || kinds=(thread address miri)
for kind in "${kinds[@]}"; do
    echo "==== $kind"
    case $kind in
    thread | address)
        RUSTFLAGS="-Zsanitizer=$kind -Cunsafe-allow-abi-mismatch=sanitizer" \
            TSAN_OPTIONS="suppressions=$suppressions halt_on_error=1" ASAN_OPTIONS="detect_leaks=0 allow_user_segv_handler=1 handle_sigbus=0" \
            CARGO_TARGET_DIR="$target/$kind" cargo +nightly test --target "$host" --test page -- --nocapture --test-threads 1 || status=1
        ;;
    miri)
        if cargo +nightly miri --version >/dev/null 2>&1; then
            (cd ../../chronotick-core && PROPTEST_CASES=8 cargo +nightly miri test --lib clock_page) || status=1
        else
            echo "skipped: this nightly has no miri (rustup +nightly component add miri)"
        fi
        ;;
    esac
done
exit $status
