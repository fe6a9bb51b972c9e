#!/usr/bin/env bash
# The table of docs/ACCURACY.md: replays every trace of a folder and scores the predictions against the truth beside it.
#
# usage: tests/accuracy.sh TRACES SCORER none|chronos|ttm|both
#
# TRACES holds NAME.csv and NAME.truth.csv; SCORER is called as `python3 SCORER TRACE TRUTH PREDICTIONS --json` and needs numpy
# (PYTHON names another interpreter). The last but one column is the interval score of the best of five Gaussian Kalman filters,
# see interval_score.py. Needs `cargo build --release` first.
set -euo pipefail
[ $# = 3 ] || { sed -n 's/^# \(usage:\)/\1/p' "$0" >&2; exit 2; }
traces=$1 scorer=$2 forecasters=$3
here=$(dirname "$0")
chronotick=${CHRONOTICK:-$here/../target/release/chronotick}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
echo "| trace | horizon s | n | RMSE us | best baseline us | ratio | inside 95 % | width us | interval score us | Kalman's | outside bound |"
echo "|---|---|---|---|---|---|---|---|---|---|---|"
for truth in "$traces"/*.truth.csv; do
    name=$(basename "$truth" .truth.csv)
    rows=$(grep -cv '^#' "$traces/$name.csv")
    # Short traces are frozen at every row, long ones at every eighth.
    if [ "$rows" -lt 1500 ]; then stride=1 warmup=40; else stride=8 warmup=256; fi
    "$chronotick" replay "$traces/$name.csv" --horizons 0,16,64,256,1024,4096,14400 --stride $stride --warmup $warmup \
        --forecasters "$forecasters" --predictions "$out/p.csv" >"$out/log"
    "${PYTHON:-python3}" "$here/interval_score.py" "$traces/$name.csv" "$truth" "$out/p.csv" >"$out/scores.json"
    "${PYTHON:-python3}" "$scorer" "$traces/$name.csv" "$truth" "$out/p.csv" --json | "${PYTHON:-python3}" -c '
import json, sys
result = json.load(sys.stdin)
scores = json.load(open(sys.argv[1], encoding="utf-8"))
for horizon, r in result["horizons"].items():
    best = r["baselines_rmse_us"][r["best_baseline"]]
    print("| %s | %.0f | %d | %.2f | %.2f (%s) | %.2f | %.3f | %.1f | %.1f | %.1f | %d |" % (result["trace"], float(horizon), r["n"],
          r["rmse_us"], best, r["best_baseline"], r["ratio_to_best"], r["coverage95"], r["width95_us"], r["interval_score_us"],
          scores["%.1f" % float(horizon)]["kalman_us"], r["outside_bound"]))
assert result["non_finite"] == 0, "a prediction is not finite"
' "$out/scores.json"
done
