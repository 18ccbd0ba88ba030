# The deployer's walk: nine steps in this order, each proven by what already ran.
# shellcheck shell=bash

# walked NUMBER TITLE STEP…: every step ran, well, and behind those of the number before.
walk_at=0
walked() {
  # Not the names check() has: it would see its own.
  local number=$1 title=$2 step line last=$walk_at outcome=ok why=""; shift 2
  for step in "$@"; do
    line=$(awk -F'\t' -v step="$step" '$2 == step { print NR ":" $1; exit }' "$work/results.tsv")
    case $line in
      *:ok) [ "${line%:*}" -gt "$walk_at" ] || { outcome=FAIL why="$why; out of order: $step"; } ;;
      *) outcome=FAIL why="$why; $step: ${line:-did not run}" ;;
    esac
    [ "${line%:*}" -le "$last" ] 2>/dev/null || last=${line%:*}
  done
  walk_at=$last
  walk() { echo "${why#; }"; [ $outcome = ok ]; }
  check "walk $number: $title" walk
}

walked 1 "packages install without network, nothing dials out" "packages install without network"
walked 2 "a net without retention is refused before any host is touched" "a net without retention is refused: file, key, remedy; no host touched"
walked 3 "site: nothing failed, terms printed" "site: first converge" "  … printed every net's terms, nothing failed" "  … nothing dialled out: no node tried to leave"
walked 4 "site again: changed=0" "site again: changed=0"
walked 5 "verify: blocked with open, mirror, clocks" "verify play: all pairs, a visit seen, roles, report" "  … wrote its report: both directions of the mirror, clocks"
walked 6 "three wrong passwords: one session, three logins, within a second" "three wrong ssh passwords: one session with three logins, within a second"
walked 7 "notify test arrives on both channels" "notify test arrives at both"
walked 8 "nftables stopped: silence within 5 s, doctor names it, capture goes on" "wall unloaded or stopped: decoys silent within 5 s, doctor says so, the capture goes on; back: told, too"
walked 9 "reset: nothing left, evidence kept unless named" "reset takes all away but what was recorded" "reset with the nets' names takes that too"
