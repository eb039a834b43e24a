#!/usr/bin/env bash
# What `make bench` runs: every benchmark, then the comparisons with PyTorch and SciPy where Python has them. Writes one
# folder, bench/results/<date>-<device>: report.md with all commands and their output, and the numbers as JSON.
#   bench/run.sh [auto|cpu|cuda]
# SEMIVOX: the program (build/semivox); PYTHON: the Python with PyTorch (python3); SEMIVOX_LA: a data set folder to load.
set -euo pipefail
cd "$(dirname "$0")/.."
semivox=${SEMIVOX:-build/semivox}
python=${PYTHON:-python3}
device=${1:-auto}
out=bench/results/$(date -u +%F)-$device
if [ -e "$out" ]; then out+=$(date -u +-%H%M); fi  # of another machine or an earlier run: never overwritten
mkdir -p "$out"
report=$out/report.md

say() { tee -a "$report"; }

# A command and its output as a block of the report.
section() {
  printf '\n## %s\n\n`%s`\n\n```\n' "$1" "${*:2}" | say
  "${@:2}" 2>&1 | say
  printf '```\n' | say
}

# bench NAME ARGUMENTS...: a benchmark, its numbers in NAME.json.
bench() { section "$1" "$semivox" bench "${@:2}" --json "$out/$1.json"; }

# compare NAME MODULE SCRIPT ARGUMENTS...: a comparison, when Python has the module that it needs.
compare() {
  local name=$1 module=$2 script=$3
  if "$python" -c "import $module" 2>/dev/null; then
    section "$name" "$python" "bench/$script.py" --semivox "$semivox" "${@:4}" --out "$out/$name"
  else
    printf '\n## %s\n\nNot run: %s has no %s.\n' "$name" "$python" "$module" | say
  fi
}

printf '# Benchmarks, %s, commit %s\n' "$(date -u +%FT%TZ)" "$(git describe --always --dirty 2>/dev/null || echo unknown)" >"$report"
section "Program and machine" "$semivox" info
bench kernels kernels --device "$device"
for precision in f32 bf16; do
  bench "layers-$precision" layers --device "$device" --precision $precision
  bench "step-$precision" step --device "$device" --precision $precision
  bench "eval-$precision" step --mode eval --device "$device" --precision $precision
  bench "bcp-$precision" step --method bcp --batch 4 --iterations 2 --device "$device" --precision $precision
  if [ "$device" != cpu ]; then
    bench "bcp-graph-$precision" step --method bcp --batch 4 --iterations 2 --graph --device "$device" --precision $precision
  fi
  bench "scaling-$precision" scaling --device "$device" --precision $precision
  bench "whole-volume-$precision" predict --whole-volume --device "$device" --precision $precision
done
bench methods methods --device "$device" --patch 112x112x80 --precision bf16 --iterations 2
bench contrast contrast --device "$device"
bench data data --device "$device" ${SEMIVOX_LA:+--data "$SEMIVOX_LA"}
bench metrics metrics
compare pytorch torch compare_pytorch --device "${device/auto/cpu}"
compare pytorch-predict torch compare_pytorch --device "${device/auto/cpu}" --workloads predict --rounds 2 --iterations 1
compare metrics-scipy scipy compare_metrics
compare precision json compare_precision ${SEMIVOX_LA:+--data "$SEMIVOX_LA"}

echo
echo "report: $report"
