# Shared by the scripts of this folder: places, names of this run, and how a step says what it saw.
# shellcheck shell=bash
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
# What costs time to make and does not change between runs.
cache=$root/target/deploy
packages=$root/target/packages
# Everything of one run is named with its id, so that two runs, or a run and what another one left, never meet.
id=${DEPLOY_RUN:-$$}
work=${DEPLOY_WORK:-$root/run/deploy-$id}
ns() { echo "ghd$id-$1"; }

cgroup=/sys/fs/cgroup
[ -f $cgroup/cgroup.controllers ] || cgroup=/sys/fs/cgroup/unified

# Booted hosts, and bare namespaces.
hosts="c1 n1 n2 s1 gw"
bare="op att out"

# check NAME CMD… : one line with what came of it; the first failure does not end the run.
check() {
  local name=$1 began said status=ok; shift
  began=$(date +%s%N)
  said=$("$@" 2>&1) || status=FAIL
  local took=$((($(date +%s%N) - began) / 1000000))
  printf '%-5s %s (%d.%ds)\n' "$status" "$name" $((took / 1000)) $((took % 1000 / 100))
  printf '%s\t%s\t%d\n' "$status" "$name" "$took" >>"$work/results.tsv"
  if [ $status = FAIL ]; then printf '%s\n' "$said" | tail -n 25 | sed 's/^/      /'; else [ -z "${VERBOSE:-}" ] || printf '%s\n' "$said" | sed 's/^/      /'; fi
}

# aside NAME CMD… : goes on beside what follows, its output in NAME.log.
aside() {
  local name=$1; shift
  { local came=0; "$@" >"$work/$name.log" 2>&1 || came=$?; echo $came >"$work/$name.status"; } &
}

# came_of NAME : waits for it, and returns what it returned. A file says that: on a busy machine another child may
# have its process id by then, and the shell would not know it any more.
came_of() {
  until [ -s "$work/$1.status" ]; do sleep 0.2; done
  return "$(cat "$work/$1.status")"
}

# Whether a line is there. Reads to the end: grep -q would end whoever still writes, and that counts with pipefail.
found() { grep "$@" >/dev/null; }

# until_true SECONDS CMD… : waits for a condition.
until_true() {
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || { "$@"; return 1; }; sleep 0.2; done
}
