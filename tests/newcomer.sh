#!/usr/bin/env bash
# A newcomer's path: README's commands in a root that has Debian, a C compiler and Rust, and nothing else, as a user without
# privilege: tests/newcomer.sh [FOLDER [COMMAND...]]
#
# FOLDER is where the root is made (default: a temporary one); one that is there already is gone on with. With commands, these are
# run instead of README's. The first run takes as long as a build from nothing.
# Status 77, with the reason as the last line, where such a root cannot be made.
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "only root can make a root: sudo tests/newcomer.sh"; exit 77; }
command -v mmdebstrap >/dev/null || { echo "mmdebstrap is missing (apt-get install mmdebstrap)"; exit 77; }
if [ $# -gt 0 ]; then
    root=$1
    shift
else
    root=$(mktemp -d)/root
    trap 'rm -rf "$root"' EXIT
fi
home=/home/newcomer
if [ ! -d "$root$home" ]; then
    [ -d "$root/etc" ] || mmdebstrap --quiet --variant=minbase --include=ca-certificates,gcc,libc6-dev bookworm "$root"
    chroot "$root" useradd --create-home newcomer
    git clone --quiet . "$root$home/chronotick"
    chroot "$root" chown -R newcomer "$home"
fi
# How this machine reaches the network, and whom it trusts there.
cp /etc/resolv.conf /etc/hosts "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
mkdir -p "$root/opt/rust"
# The commands are the lines of the first shell block, as they stand.
[ $# -gt 0 ] || mapfile -t commands < <(awk '/^```sh$/ { inside = 1; next } /^```$/ { exit } inside' README.md)
[ $# = 0 ] || commands=("$@")

rust=$(rustc --print sysroot)
export root rust home
inside() { # inside COMMAND : as the newcomer, with Rust mounted read-only
    unshare --mount --pid --fork bash -euc '
        mount --bind "$rust" "$root/opt/rust"
        mount -o remount,bind,ro "$root/opt/rust"
        mount -t proc proc "$root/proc"
        mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=0620 devpts "$root/dev/pts"
        mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm" 2>/dev/null || true
        exec chroot --userspec=newcomer "$root" /usr/bin/env -i HOME="$home" PATH=/opt/rust/bin:/usr/bin:/bin \
            CARGO_TERM_COLOR=never bash -euc "cd chronotick 2>/dev/null || cd $home/chronotick; $1"
    ' inside "$1"
}
inside 'echo "Debian $(cat /etc/debian_version), $(rustc --version), as $(id -un)"'
for command in "${commands[@]}"; do
    start=$SECONDS
    echo "\$ $command"
    inside "$command"
    echo "in $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
done
