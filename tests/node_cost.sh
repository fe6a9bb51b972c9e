#!/usr/bin/env bash
# What a daemon costs a node: tests/node_cost.sh [SECONDS [PROGRAM]]
#
# A daemon at the default cadence, with four servers that are one chronyd on loopback, is scraped every 15 s. Printed are its
# processor time and memory without and with the worker, its packets, and the bytes of a scrape.
# Status 77, with the reason as the last line, where chronyd or curl is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-120}
program=${2:-target/release/chronotick}
for tool in chronyd curl; do
    if ! PATH="$PATH:/usr/sbin" command -v $tool >/dev/null; then
        echo "$tool is missing (apt-get install chrony curl)"
        exit 77
    fi
done
folder=$(mktemp -d)
started=()
finish() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

port=11125
printf 'port %s\nbindaddress 0.0.0.0\ncmdport 0\nlocal stratum 1\nallow 127.0.0.0/8\npidfile %s\n' \
    $port "$folder/chronyd.pid" >"$folder/chrony.conf"
PATH="$PATH:/usr/sbin" chronyd -x -d -u root -f "$folder/chrony.conf" >"$folder/chronyd.log" 2>&1 &
started+=($!)

measure() { # measure NAME MODE METRICS_PORT
    mkdir "$folder/$1"
    cat >"$folder/$1/c.toml" <<END
[ntp]
servers = ["127.0.0.1:$port", "127.0.0.2:$port", "127.0.0.3:$port", "127.0.0.4:$port"]
[page]
path = "$folder/$1/clock"
[worker]
mode = "$2"
[metrics]
listen = "127.0.0.1:$3"
END
    "$program" run --config "$folder/$1/c.toml" 2>"$folder/$1/log" &
    local pid=$!
    started+=($pid)
    # The start, with its bursts of requests, is not the daemon's daily life.
    sleep 15
    ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
    local children before worker_before after worker_after end bytes=0
    children=$(pgrep -P $pid || true)
    before=$(ticks $pid)
    worker_before=$([ -z "$children" ] || ticks "$children")
    end=$((SECONDS + seconds))
    while [ $SECONDS -lt $end ]; do
        bytes=$(curl -s --noproxy '*' "http://127.0.0.1:$3/metrics" | wc -c)
        sleep 15
    done
    after=$(ticks $pid)
    worker_after=$([ -z "$children" ] || ticks "$children")
    local rss worker_rss=0
    rss=$(awk '/^VmRSS/ { print $2 }' /proc/$pid/status)
    [ -z "$children" ] || worker_rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$children/status")
    awk -v name="$1" -v ticks=$((after - before)) -v worker=$((${worker_after:-0} - ${worker_before:-0})) \
        -v s="$seconds" -v hz="$(getconf CLK_TCK)" -v rss="$rss" -v worker_rss="$worker_rss" -v bytes="$bytes" 'BEGIN {
            printf "%-8s daemon %.3f %% of a core, %.1f MB resident; worker %.3f %%, %.1f MB; %d bytes a scrape\n",
                name, 100 * ticks / hz / s, rss * 1.024 / 1000, 100 * worker / hz / s, worker_rss * 1.024 / 1000, bytes
        }'
    curl -s --noproxy '*' "http://127.0.0.1:$3/metrics" |
        awk '/^chronotick_source_requests_total/ { n += $2 } /^chronotick_source_poll_interval_seconds/ { p += 3600 / $2 }
             END { printf "         %d requests so far, %d an hour at the poll interval in force\n", n, p }'
    kill $pid
    wait $pid || true
}

echo "over $seconds s, scraped every 15 s:"
measure without off 19123
measure with process 19124
