#!/usr/bin/env bash
# The real daemon, its worker, a chronyd and eight reading programs on loopback, under everything that can be done to them.
#
#     tests/soak.sh [MINUTES]          10 by default; a day is 1440
#
# Each round: processor hogs, every process stopped (SIGSTOP) in turn, every process killed (SIGKILL) in turn, the page's folder
# full, the daemon without descriptors, the folder read-only. The truth is the system's own clock, which chronyd serves. Every
# reading of every program is held to the laws: inside its hard bound, never back within an epoch. After each disturbance a
# fresh reading has to come within fifteen seconds; nothing may be left behind at the end.
#
# Programs: CHRONOTICK and SOAK_READER (by default those of target/release, built if they are missing), chronyd from the PATH. Root
# is needed for chronyd's reference without privileges to be as simple as this, and to mount the folder: without it those two
# disturbances are skipped and said so. The exit status is 1 when a law was broken.
set -uo pipefail
cd "$(dirname "$0")/.."
minutes=${1:-10}
chronotick=${CHRONOTICK:-target/release/chronotick}
reader=${SOAK_READER:-target/release/soak-reader}
[ -x "$chronotick" ] && [ -x "$reader" ] || cargo build --release --workspace --bins || exit 1
chronyd=$(PATH=$PATH:/usr/sbin:/sbin command -v chronyd) || { echo "skipped: no chronyd (apt-get install chrony)"; exit 77; }
chronotick=$(realpath "$chronotick") reader=$(realpath "$reader")

folder=$(mktemp -d /tmp/chronotick-soak-XXXXXX)
clock=$folder/clock port=$((20000 + RANDOM % 20000))
mkdir "$clock"
mounted=no
mount -t tmpfs -o size=256k,mode=0755 tmpfs "$clock" 2>/dev/null && mounted=yes
broken=0 skipped=()
declare -A pids=()
declare -a hogs=()

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*"; }
wrong() { broken=$((broken + 1)); say "BROKEN: $*"; }
alive() { [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null; }

cat >"$folder/chrony.conf" <<CONF
local stratum 1
allow 127.0.0.1
bindaddress 127.0.0.1
port $port
cmdport 0
pidfile $folder/chronyd.pid
bindcmdaddress /
CONF
cat >"$folder/chronotick.toml" <<CONF
[ntp]
servers = ["127.0.0.1:$port"]
poll_min = "1 s"
poll_max = "2 s"
burst_interval = "100 ms"
[serve]
holdover_after = "4 s"
CONF
key() { # key SECTION LINE : where the configuration has a folder of its own
    printf '[%s]\n%s\n' "$1" "$2" >>"$folder/chronotick.toml"
}
key page "path = \"$clock/page\""

start() { # start NAME : chronyd, daemon or reader-N
    case $1 in
    chronyd) "$chronyd" -x -d -u root -f "$folder/chrony.conf" >"$folder/chronyd.log" 2>&1 & ;;
    daemon) "$chronotick" run --config "$folder/chronotick.toml" >>"$folder/daemon.log" 2>&1 & ;;
    reader-*) "$reader" "$clock/page" "$folder/stop" >>"$folder/$1.out" 2>>"$folder/$1.err" & ;;
    esac
    pids[$1]=$!
}

worker() { pgrep -P "${pids[daemon]}" | head -n 1; }

with_worker() { # with_worker SECONDS : within that long the daemon has a worker, else it is told
    local until=$((SECONDS + $1))
    while [ $SECONDS -lt "$until" ]; do
        [ -n "$(worker)" ] && return 0
        sleep 0.2
    done
    wrong "the daemon has no worker after $1 s"
}

fresh() { # fresh SECONDS WHAT : within that long a reading comes from fresh measurements, else it is told
    local until=$((SECONDS + $1)) tier=
    while [ $SECONDS -lt "$until" ]; do
        tier=$("$chronotick" now --json --page "$clock/page" 2>/dev/null | sed -n 's/.*"tier": *"\([a-z]*\)".*/\1/p')
        case $tier in fused | filter) return 0 ;; esac
        sleep 0.2
    done
    wrong "$2: still ${tier:-no reading} after $1 s"
    return 1
}

holdings() { # descriptors and resident kB of the daemon
    local pid=${pids[daemon]}
    echo "$(find "/proc/$pid/fd" -mindepth 1 2>/dev/null | wc -l) $(sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$pid/status" 2>/dev/null)"
}

cleanup() {
    touch "$folder/stop"
    [ ${#hogs[@]} = 0 ] || kill "${hogs[@]}" 2>/dev/null
    local name
    for name in "${!pids[@]}"; do kill -CONT "${pids[$name]}" 2>/dev/null; kill "${pids[$name]}" 2>/dev/null; done
    wait 2>/dev/null
    # Twice where it ends while the folder is read-only.
    [ $mounted = no ] || umount -l "$clock" && umount -l "$clock" 2>/dev/null
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

pause() { # pause NAME SECONDS
    local pid=${pids[$1]:-}
    [ "$1" != worker ] || { with_worker 40 && pid=$(worker); }
    [ -n "$pid" ] || { say "no $1 to stop"; return; }
    say "SIGSTOP $1 for $2 s"
    kill -STOP "$pid" 2>/dev/null && sleep "$2" && kill -CONT "$pid" 2>/dev/null
    fresh 15 "after SIGSTOP of $1"
}

killed() { # killed NAME
    local pid=${pids[$1]:-}
    [ "$1" != worker ] || { with_worker 40 && pid=$(worker); }
    [ -n "$pid" ] || { say "no $1 to kill"; return; }
    say "SIGKILL $1"
    kill -KILL "$pid"
    if [ "$1" != worker ]; then
        wait "$pid" 2>/dev/null
        sleep 1
        start "$1"
    fi
    fresh 15 "after SIGKILL of $1"
    [ "$1" != worker ] || with_worker 40
}

say "$(uname -sr), $(nproc) processors, $minutes min, chronyd on port $port, the page on $([ $mounted = yes ] && echo "a tmpfs of 256 kB" || echo "$folder")"
start chronyd
start daemon
for n in 1 2 3 4 5 6 7 8; do start reader-$n; done
fresh 30 "after the start" || { tail -n 5 "$folder/daemon.log"; exit 1; }
until=$((SECONDS + 60 * minutes)) round=0
while [ $SECONDS -lt $until ]; do
    round=$((round + 1))
    say "round $round; daemon holds (descriptors, resident kB) $(holdings)"

    say "four processor hogs for 8 s"
    for n in 1 2 3 4; do
        (while :; do :; done) &
        hogs+=($!)
    done
    sleep 8
    fresh 15 "beside processor hogs"
    kill "${hogs[@]}" 2>/dev/null
    wait "${hogs[@]}" 2>/dev/null
    hogs=()

    pause chronyd 6
    pause daemon 4
    pause worker 4
    pause reader-$((1 + round % 8)) 2

    killed worker
    killed daemon
    killed chronyd
    before=${pids[reader-$((1 + round % 8))]}
    killed reader-$((1 + round % 8))
    kill -0 "$before" 2>/dev/null && wrong "a killed reader lives"

    if [ $mounted = yes ]; then
        say "the page's folder full for 4 s, the daemon started anew meanwhile"
        head -c 1000000 /dev/zero >"$clock/filler" 2>/dev/null
        killed daemon
        sleep 4
        rm -f "$clock/filler"
        fresh 15 "after a full folder"
        # A read-only mount over the same folder: who writes through a mapping goes on, whoever opens a file now may only read.
        say "the page's folder read-only for 4 s, a reader and the daemon started anew meanwhile"
        if mount --bind "$clock" "$clock" 2>/dev/null && mount -o remount,bind,ro "$clock"; then
            sleep 1
            fresh 15 "in a read-only folder"
            killed reader-$((1 + (round + 3) % 8))
            kill -KILL "${pids[daemon]}"
            wait "${pids[daemon]}" 2>/dev/null
            "$chronotick" run --config "$folder/chronotick.toml" >"$folder/refused.log" 2>&1 &
            refused=$!
            sleep 2
            if kill -0 $refused 2>/dev/null; then
                pids[daemon]=$refused
            else
                [ "$(grep -c '^chronotick:' "$folder/refused.log")" = 1 ] || wrong "not one line on a read-only folder: $(tail -n 3 "$folder/refused.log")"
                umount -l "$clock"
                start daemon
            fi
            mountpoint -q "$clock" && findmnt -n -o OPTIONS "$clock" | grep -q '^ro' && umount -l "$clock"
        else
            say "skipped: it cannot be mounted read-only"
            skipped+=("read-only folder")
        fi
        fresh 15 "after a read-only folder"
    else
        skipped+=("full folder" "read-only folder")
    fi

    say "no descriptors for the daemon for 4 s, its worker killed meanwhile"
    read -r held _ <<<"$(holdings)"
    limit=$(prlimit --pid "${pids[daemon]}" --nofile --noheadings --output HARD | tr -d ' ')
    prlimit --pid "${pids[daemon]}" --nofile="$held:$limit"
    pid=$(worker) && [ -n "$pid" ] && kill -KILL "$pid"
    sleep 4
    alive daemon || wrong "the daemon died of having no descriptors"
    prlimit --pid "${pids[daemon]}" --nofile="$limit:$limit"
    fresh 15 "after a time without descriptors"
    for n in 1 2 3 4 5 6 7 8; do alive reader-$n || wrong "reader-$n is gone"; done
    alive daemon || { wrong "the daemon is gone"; tail -n 3 "$folder/daemon.log"; start daemon; }
done

say "the end; daemon holds (descriptors, resident kB) $(holdings)"
touch "$folder/stop"
total=0 outside=0 back=0 tiers=(0 0 0 0 0)
for n in 1 2 3 4 5 6 7 8; do wait "${pids[reader-$n]}" || wrong "reader-$n: $(tail -n 1 "$folder/reader-$n.err")"; done
for n in 1 2 3 4 5 6 7 8; do
    while read -r readings out earlier fused filter holdover cached raw; do
        total=$((total + readings)) outside=$((outside + out)) back=$((back + earlier))
        tiers=($((tiers[0] + fused)) $((tiers[1] + filter)) $((tiers[2] + holdover)) $((tiers[3] + cached)) $((tiers[4] + raw)))
    done <"$folder/reader-$n.out"
    unset "pids[reader-$n]"
done
# A reader that was killed has told of what it saw until then.
told=$(cat "$folder"/reader-*.err | grep -c -e '^outside:' -e '^back:')
[ "$told" = $((outside + back)) ] || wrong "$told readings broke a law in killed readers too"
last=$(worker)
kill -TERM "${pids[daemon]}"
stopped=$SECONDS
wait "${pids[daemon]}" || wrong "the daemon ended with status $?"
[ $((SECONDS - stopped)) -le 2 ] || wrong "the daemon took $((SECONDS - stopped)) s to end"
[ -z "$last" ] || ! kill -0 "$last" 2>/dev/null || wrong "the worker outlived the daemon"
[ ! -e "$clock/status.sock" ] || wrong "a socket is left behind"
unset "pids[daemon]"
say "$round rounds: $total readings in 8 programs, $outside outside the hard bound, $back earlier than one before"
say "by tier: fused ${tiers[0]}, filter ${tiers[1]}, holdover ${tiers[2]}, cached ${tiers[3]}, raw ${tiers[4]}"
[ ${#skipped[@]} = 0 ] || say "skipped: $(printf '%s\n' "${skipped[@]}" | sort | uniq -c | tr -s ' ' | paste -sd,)"
say "$broken broken"
[ $broken = 0 ] && [ $((outside + back)) = 0 ]
