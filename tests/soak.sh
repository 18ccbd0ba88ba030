#!/usr/bin/env bash
# The full numbers, in the test profile: every test of the workspace, the long ones in lanes beside each other.
# What measures how long a visitor waits runs alone, at the end. Each lane's output stays in run/soak/.
set -uo pipefail
cd "$(dirname "$0")/.."
export GLASSHIVE_CONNECTIONS=100000 GLASSHIVE_FUZZ=1000000 GLASSHIVE_KILLS=200 GLASSHIVE_IMAGES=100
out=run/soak
mkdir -p "$out"
begin=$SECONDS
failed=0

# lane NAME ARGUMENTS: cargo test with these; one line when it ends.
lane() {
  local name=$1 since=$SECONDS verdict=passed
  shift
  ${CARGO:-cargo} test --workspace --locked --no-fail-fast "$@" >"$out/$name.log" 2>&1 || verdict=FAILED
  awk -v name="$name" -v verdict="$verdict" -v took=$((SECONDS - since)) '
    /^test result:/ { passed += $4; failed += $6; skipped += $8 }
    END { printf "%-12s %s: %d passed, %d failed, %d skipped, %d s\n", name, verdict, passed, failed, skipped, took }' "$out/$name.log"
  [ "$verdict" = passed ]
}

# together LANE...: waits for all of them.
together() {
  local pids=() pid
  for name in "$@"; do
    "$name" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do
    wait "$pid" || failed=1
  done
}

kills() { lane kills --test kills -- --nocapture; }
long_run() { lane long_run --test long_run -- --nocapture --test-threads=1; }
power() { lane power --test power -- --nocapture; }
visitors() { lane visitors --test hostile -- --nocapture --test-threads=1; }
# Every other test, by the names of those above.
others() {
  local names=() test
  for test in kills power long_run hostile; do
    while read -r name; do
      names+=(--skip "$name")
    done < <(${CARGO:-cargo} test --workspace --locked --test "$test" -- --list 2>>"$out/list.log" | sed -n 's/: test$//p')
  done
  [ "${#names[@]}" -gt 0 ] || { echo "others       FAILED: no test is listed; see $out/list.log"; return 1; }
  lane others -- --nocapture --test-threads=4 --exact "${names[@]}"
}

# Beside the longest.
in_turn() {
  local bad=0
  for name in kills power others; do
    "$name" || bad=1
  done
  return $bad
}

together in_turn long_run
together visitors
echo "make soak: $([ $failed = 0 ] && echo passed || echo FAILED) after $(((SECONDS - begin) / 60)) min; what each measured: grep in $out/"
exit $failed
