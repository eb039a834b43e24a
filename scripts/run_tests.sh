#!/usr/bin/env bash
# Runs the tests of a build folder, then says aloud what they skipped and ends with the line "N passed, N failed".
#   scripts/run_tests.sh BUILD_FOLDER [ctest options]
set -euo pipefail
build=$1
shift

log=$build/test_log.txt
status=0
ctest --test-dir "$build" --parallel 2 --output-on-failure --output-log "$log" "$@" || status=$?  # most keep one core busy

# Tests that need a GPU or real scans and do not find them say MESSAGE("skipped: <why>").
awk '/^TEST CASE:/ { test_case = $0; sub(/^TEST CASE: */, "", test_case) }
     /MESSAGE: *skipped/ { sub(/.*MESSAGE: *skipped:? */, ""); skipped[++count] = test_case ": " $0 }
     END { if (count) print "\n" count " skipped:"; for (i = 1; i <= count; i++) print "  " skipped[i] }' \
  "$build/Testing/Temporary/LastTest.log"

# ctest's own last words are "100% tests passed, 0 tests failed out of 12".
summary=$(grep -E 'tests passed, [0-9]+ tests failed out of' "$log" | tail -1) || {
  echo "0 passed, 1 failed (ctest found no tests in $build)"
  exit 1
}
failed=$(sed -E 's/.* ([0-9]+) tests failed.*/\1/' <<<"$summary")
total=$(sed -E 's/.*out of ([0-9]+).*/\1/' <<<"$summary")
echo
echo "$((total - failed)) passed, $failed failed"
exit "$status"
