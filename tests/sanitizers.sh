#!/usr/bin/env bash
# The lock-free parts under ThreadSanitizer and AddressSanitizer, under loom, and under miri.
#
#     tests/sanitizers.sh [thread|address|loom|miri]...     all of them without an argument
#
# thread, address: the unit tests of the ring, the link and the page, and tests/page.rs between processes
# loom:            every interleaving of the ring (the page's model is tests/loom_page.rs, an ordinary test)
# miri:            the ring, the value that a reader replaces while threads look at it, and the arithmetic of the page's record
#
# Any toolchain will do but for miri, a component of nightly; without it that part is said to be skipped. The standard library
# is not instrumented (it comes prebuilt), hence the suppressions. Builds into target/, a folder a part.
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

# One profile for both workspaces, so that nearly all dependencies are built once a sanitizer.
profile=(--config 'profile.dev.package."*".opt-level=1' --config 'profile.dev.package."*".debug=false'
    --config 'profile.dev.debug="line-tables-only"')

sanitized() { # sanitized PART COMMAND...
    local part=$1
    shift
    # An option of nightly compilers only, which every stable one has.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=$part -Cunsafe-allow-abi-mismatch=sanitizer" \
        TSAN_OPTIONS="suppressions=$suppressions halt_on_error=1" \
        ASAN_OPTIONS="detect_leaks=0 allow_user_segv_handler=1 handle_sigbus=0" CHRONOTICK_SANITIZED=1 "$@" || status=1
}

interpreted() { # interpreted ARGUMENT...
    PROPTEST_CASES=8 MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --target-dir target/miri "$@" || status=1
}

for part in "${parts[@]}"; do
    echo "== $part"
    case $part in
    thread | address)
        sanitized "$part" cargo test "${profile[@]}" -p chronotick-host --no-default-features --lib --target "$target" \
            --target-dir "target/sanitize-$part" -- shm:: link::
        # A workspace of its own, so that a sanitizer has little to build.
        sanitized "$part" cargo test "${profile[@]}" --manifest-path tests/lean/Cargo.toml --target "$target" \
            --target-dir "target/sanitize-$part" --test page -- --nocapture --test-threads 1
        ;;
    loom)
        RUSTFLAGS="--cfg loom" cargo test -p chronotick-host --no-default-features --lib \
            --target-dir target/loom -- loom || status=1
        ;;
    miri)
        if cargo +nightly miri --version >/dev/null 2>&1; then
            # The rest of shm/ maps files, which miri does not know.
            interpreted -p chronotick-host --no-default-features --lib -- shm::ring shm::replaceable
            interpreted -p chronotick-core --lib -- clock_page
        else
            echo "skipped: no nightly toolchain with miri (rustup toolchain install nightly --component miri,rust-src)"
        fi
        ;;
    *)
        echo "unknown: $part (thread, address, loom, miri)" >&2
        exit 2
        ;;
    esac
done
exit $status
