#!/usr/bin/env bash
# make demo: synthetic scans, supervised training and BCP on 2 labelled + 12 unlabelled of them, one table of scores.
# DEMO=short makes the same steps with few iterations, to see that all of it works.
set -euo pipefail
cd "$(dirname "$0")/.."

semivox=${BUILD:-build}/semivox
folder=runs/demo
iterations=1500
if [ "${DEMO:-full}" = short ]; then
  folder=runs/demo-short
  iterations=12
fi

start=$SECONDS
rm -rf "$folder"
mkdir -p "$folder"
echo "--- 24 synthetic scans: 2 labelled, 12 unlabelled, 8 held out"
"$semivox" data synth --out "$folder/data" --cases 24 --size 80x80x56 --seed 7
echo "--- training on them ($iterations iterations each)"
"$semivox" compare --config configs/demo.toml --methods supervised,bcp --data "$folder/data" --labeled 2 --unlabeled 12 \
  --iterations "$iterations" --out "$folder" --save-predictions
echo "--- done in $((SECONDS - start)) s; predictions and pictures: $folder/*/results/predictions, logs: $folder/*/metrics.jsonl"
