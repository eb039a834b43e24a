#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: builds with CUDA, holds the GPU kernels against the CPU, runs them under
# compute-sanitizer, trains the same short run on both devices, times kernels, layers and steps, and writes one report,
# bench/results/<date>-<gpu>.md. Ends with an error when anything failed.
# SEMIVOX_BUILD: a folder with semivox and semivox_tests built elsewhere, for a machine that cannot install what a build needs.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v nvidia-smi >/dev/null && gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader -i 0) || {
  echo "gpu-check needs a machine with an NVIDIA GPU: nvidia-smi does not find one" >&2
  exit 1
}
build=${SEMIVOX_BUILD:-build}
semivox=$build/semivox
work=runs/gpu-check
rm -rf "$work"
mkdir -p "$work" bench/results
export SEMIVOX_CACHE=$work/cache  # measured here, not taken from earlier runs
report=bench/results/$(date +%Y-%m-%d)-$(tr -cs 'A-Za-z0-9\n' '-' <<<"$gpu").md
failures=0

say() { tee -a "$report"; }

# Runs a command, its output as a block of the report under a heading.
section() {
  local title=$1
  shift
  printf '\n## %s\n\n`%s`\n\n```\n' "$title" "$*" | say
  local status=0
  "$@" 2>&1 | say || status=$?
  printf '```\n' | say
  if [ "$status" -ne 0 ]; then
    failures=$((failures + 1))
    printf '\n**Failed** with exit code %s.\n' "$status" | say
  fi
}

if [ -z "${SEMIVOX_BUILD:-}" ]; then
  cmake --preset default -DSEMIVOX_CUDA=ON
  cmake --build $build --parallel "$(nproc)" --target semivox semivox_tests
fi

printf '# GPU check: %s, %s\n' "$gpu" "$(date -u +%FT%TZ)" >"$report"
section "Program and machine" $semivox info

# Parity: every test case that names CUDA compares the GPU with the CPU.
cuda_cases=(--test-case='*CUDA*,*cuda*,*GPU*')
section "Parity of GPU and CPU" $build/semivox_tests "${cuda_cases[@]}"

sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null || true)
if [ -n "$sanitizer" ]; then
  # Our own kernels: those of the libraries are many, slow to instrument and not ours to judge. The libraries also try calls
  # that fail, and go on.
  own=(--kernel-name kernel_substring=semivox --error-exitcode 9 --print-limit 20)
  section "compute-sanitizer memcheck" "$sanitizer" --tool memcheck --report-api-errors no "${own[@]}" \
    $build/semivox_tests "${cuda_cases[@]}"
  section "compute-sanitizer racecheck" "$sanitizer" --tool racecheck "${own[@]}" $build/semivox_tests "${cuda_cases[@]}"
else
  failures=$((failures + 1))
  printf '\n## compute-sanitizer\n\n**Not run**: it is not in the toolkit (Debian package cuda-sanitizer).\n' | say
fi

# The same short run on both devices: the losses start equal and drift apart only by rounding.
data=$work/data
$semivox data synth --out $data --cases 6 --size 48x48x32 --seed 7
short_run() {  # NAME DEVICE ARGUMENTS...
  $semivox train --method bcp --data $data --labeled 2 --out "$work/$1" --network vnet --filters 8 --patch 32x32x32 \
    --batch 4 --iterations 20 --seed 1337 --device "$2" "${@:3}"
}
section "Short training, CPU" short_run cpu cpu
section "Short training, GPU, iterations replayed as a CUDA graph" short_run cuda cuda
section "Short training, GPU, iterations queued one by one" short_run queued cuda --graph false
losses() { grep -o '"loss":[^,}]*' "$work/$1/metrics.jsonl" | cut -d: -f2; }
compare_replay() {
  paste <(losses queued) <(losses cuda) | awk '
    { difference = ($1 > $2 ? $1 - $2 : $2 - $1) / ($1 > 1e-6 ? $1 : 1e-6)
      printf "iteration %2d  queued %.8f  replayed %.8f  relative difference %.1e\n", NR, $1, $2, difference
      if ($1 != $2) different = 1 }
    END {
      if (NR < 20) { print "expected 20 losses from each run, found " NR; exit 1 }
      if (different) { print "expected the same losses"; exit 1 } }'
}
compare_losses() {
  paste <(losses cpu) <(losses cuda) | awk '
    { difference = ($1 > $2 ? $1 - $2 : $2 - $1) / ($1 > 1e-6 ? $1 : 1e-6)
      printf "iteration %2d  cpu %.8f  gpu %.8f  relative difference %.1e\n", NR, $1, $2, difference
      if (NR == 1) first = difference }
    END {
      if (NR < 20) { print "expected 20 losses from each device, found " NR; exit 1 }
      if (first > 1e-4) { print "the first losses differ by more than 1e-4"; exit 1 } }'
}
section "Losses of CPU and GPU" compare_losses
section "Losses of replayed and queued iterations" compare_replay

section "Kernels" $semivox bench kernels
section "Layers" $semivox bench layers
for precision in f32 bf16; do
  section "Training step, $precision" $semivox bench step --network vnet --filters 16 --patch 112x112x80 --batch 2 \
    --iterations 20 --precision $precision --json "$work/step-$precision.json"
done
for graph in "" --graph; do
  section "Iteration of BCP, bf16 $graph" $semivox bench step --method bcp --network vnet --filters 16 --patch 112x112x80 \
    --batch 4 --iterations 20 --precision bf16 $graph --json "$work/bcp$graph.json"
done

# Layers that cuDNN does not take run on one thread per result: right, and far too slow to go unnoticed. The odd shapes of the
# parity tests may.
if sed '1,/^## Short training, GPU/d' "$report" | grep "no deterministic algorithm"; then failures=$((failures + 1)); fi

echo
echo "report: $report, $failures failed"
[ "$failures" -eq 0 ]
