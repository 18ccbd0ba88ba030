# The units: running, tight, behind the wall.
# shellcheck shell=bash

score() { inside "$1" systemd-analyze security --no-pager --threshold="$3" "$2.service" >"$work/score" || { tail -1 "$work/score"; return 1; }; tail -1 "$work/score"; }
# Every process of a unit but the keeper of its link has given up all capabilities.
unprivileged() {
  active "$1" "$2" && inside "$1" sh -c 'for pid in $(cat "/sys/fs/cgroup/system.slice/'"$2"'.service/cgroup.procs"); do
      tr "\0" " " <"/proc/$pid/cmdline" | grep -q link-keeper && continue
      grep -q "^CapEff:.0000000000000000$" "/proc/$pid/status" || { echo "$pid: $(cat "/proc/$pid/cmdline" | tr "\0" " ") $(grep CapEff "/proc/$pid/status")"; exit 1; }
    done'
}
limits() { [ "$(inside "$1" systemctl show -p MemoryMax,TasksMax "$2.service" | grep -cE '=[0-9]+$')" = 2 ]; }
after_wall() {
  inside n1 systemctl show -p Requires,After glasshive-decoys.service | grep -c nftables.service | found -x 2
}

for unit in "n1 glasshive-decoys 15" "n2 glasshive-decoys 15" "s1 glasshive-sensor 17" "c1 glasshive-controller 15"; do
  # shellcheck disable=SC2086
  set -- $unit
  check "$1: $2 is active" active "$1" "$2"
  check "$1: $2 exposure at most ${3:0:1}.${3:1}" score "$1" "$2" "$3"
  check "$1: $2 runs without capabilities" unprivileged "$1" "$2"
  check "$1: $2 has limits of memory and tasks" limits "$1" "$2"
done
check "n1: decoys start after the wall, and need it" after_wall
