#!/usr/bin/env bash
# The lock-free parts under ThreadSanitizer and AddressSanitizer, under loom, and under miri.
#
#     tests/sanitizers.sh [thread|address|loom|miri]...     all of them without an argument
#
# thread, address: the unit tests of the ring, the link and the page, and tests/page.rs between processes
# loom:            every interleaving of the ring (the page's model is tests/loom_page.rs, an ordinary test)
# miri:            the ring, and the arithmetic of the page's record
#
# Needs a nightly toolchain for all but loom, and for miri its component; what is missing is said and skipped. The standard
# library is not instrumented (it comes prebuilt), hence the suppressions. Builds into target/, a folder a part.
set -uo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(thread address loom miri)
status=0

suppressions=$(mktemp)
trap 'rm -f "$suppressions"' EXIT
# The reader in the container is another user.
chmod 644 "$suppressions"
# The test harness and thread start-up of the standard library, which is not instrumented.
printf '%s\n' 'race:std::rt' 'race:std::thread' 'race:test::' 'race:std::sync::mpmc' >"$suppressions"

sanitized() { # sanitized PART COMMAND...
    local part=$1
    shift
    RUSTFLAGS="-Zsanitizer=$part -Cunsafe-allow-abi-mismatch=sanitizer" \
        TSAN_OPTIONS="suppressions=$suppressions halt_on_error=1" \
        ASAN_OPTIONS="detect_leaks=0 allow_user_segv_handler=1 handle_sigbus=0" CHRONOTICK_SANITIZED=1 "$@" || status=1
}

for part in "${parts[@]}"; do
    echo "== $part"
    if [ "$part" != loom ] && ! cargo +nightly --version >/dev/null 2>&1; then
        echo "skipped: no nightly toolchain (rustup toolchain install nightly)"
        continue
    fi
    case $part in
    thread | address)
        sanitized "$part" cargo +nightly test -p chronotick-host --no-default-features --lib --target "$target" \
            --target-dir "target/sanitize-$part" -- shm:: link::
        # A workspace of its own, so that a sanitizer has little to build.
        sanitized "$part" cargo +nightly test --manifest-path tests/lean/Cargo.toml --target "$target" \
            --target-dir "target/sanitize-$part" --test page -- --nocapture --test-threads 1
        ;;
    loom)
        RUSTFLAGS="--cfg loom" cargo test -p chronotick-host --no-default-features --lib \
            --target-dir target/loom -- loom || status=1
        ;;
    miri)
        if cargo +nightly miri --version >/dev/null 2>&1; then
            for tests in "chronotick-host --no-default-features shm::ring" "chronotick-core clock_page"; do
                read -ra words <<<"$tests"
                PROPTEST_CASES=8 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p "${words[@]:0:${#words[@]}-1}" \
                    --lib --target-dir target/miri -- "${words[-1]}" || status=1
            done
        else
            echo "skipped: this nightly has no miri (rustup +nightly component add miri rust-src)"
        fi
        ;;
    *)
        echo "unknown: $part (thread, address, loom, miri)" >&2
        exit 2
        ;;
    esac
done
exit $status
