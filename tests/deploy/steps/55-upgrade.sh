# Another version and back: real packages of another build, with another version and another schema of the databases.
# Controller first, with nodes of the version before; then nodes, one after the other. Back: refused where it would leave a
# database the older program cannot read, then with the copies put back. What was recorded is there at every step, once.
# shellcheck shell=bash

next=$root/target/next/packages
another() {
  ls "$next"/glasshive-*_0.2.0-1_*.deb || return 1
  [ "$next/MANIFEST" -nt "$packages/MANIFEST" ] || { echo "it is older than the packages: make deploy-test builds both"; return 1; }
}
version() { inside "$1" dpkg-query -W -f '${Version}' "$2"; }
daemons="c1:glasshive-controller:controller/schema s1:glasshive-sensor:sensor/journal/schema n1:glasshive-decoys:decoys/journal/schema n2:glasshive-decoys:decoys/journal/schema"
all_at() { # VERSION SCHEMA
  local host package stamp daemon
  for daemon in $daemons; do
    IFS=: read -r host package stamp <<<"$daemon"
    [ "$(version "$host" "$package")" = "$1" ] || { echo "$host has $package $(version "$host" "$package")"; return 1; }
    [ "$(inside "$host" cat "/var/lib/glasshive/$stamp")" = "$2" ] || { echo "$host: $stamp is not $2"; return 1; }
  done
}
ids() { sessions --since 2h --limit 10000 | grep -o '"session":"[^"]*"' | sort; }
# Everything seen before is there, and nothing is there twice.
none_lost() { # FILE
  ids >"$work/ids.now"
  local lost twice
  lost=$(comm -23 "$1" "$work/ids.now" | wc -l); twice=$(uniq -d "$work/ids.now" | wc -l)
  [ "$lost" = 0 ] && [ "$twice" = 0 ] || { echo "of $(wc -l <"$1") sessions $lost are lost; $twice are there twice"; return 1; }
}
visit_arrives() { # PORT
  local port=$1
  at att python3 -c "import socket; socket.create_connection(('10.66.7.77', $port), 5).close()" || return 1
  arrived() { sessions --since 10m --limit 10000 | found -F "\"destination\":{\"ip\":\"10.66.7.77\",\"port\":$port}"; }
  until_true 30 arrived
}
controller_first() {
  ids >"$work/ids.before"
  play upgrade-controller upgrade --limit controllers -e "glasshive_bundle=$next" || return 1
  [ "$(version c1 glasshive-controller)" = 0.2.0-1 ] && [ "$(version n1 glasshive-decoys)" = 0.1.0-1 ] || return 1
  until_true 30 all_linked && visit_arrives 5201 && none_lost "$work/ids.before"
}
nodes_follow() {
  play upgrade upgrade -e "glasshive_bundle=$next" || return 1
  all_at 0.2.0-1 2 && until_true 30 all_linked && visit_arrives 5202 || return 1
  inside c1 test -d /var/lib/glasshive/controller/backup-0.1.0-1/log && inside n1 test -d /var/lib/glasshive/decoys/backup-0.1.0-1/journal &&
    none_lost "$work/ids.before"
}
# The program of before, beside: it says why in one line, with the code its manual names, and touches nothing.
older_refuses() {
  local said status=0
  inside c1 sh -c 'rm -rf /tmp/older && dpkg-deb -x /var/cache/glasshive/glasshive-controller_0.1.0-1_amd64.deb /tmp/older'
  said=$(inside c1 runuser -u glasshive -- /tmp/older/usr/bin/glasshive serve 2>&1) || status=$?
  echo "$status: $said"
  [ "$status" = 7 ] && [ "$(wc -l <<<"$said")" = 1 ] && [[ $said == *"has schema 2, this program knows 1"* ]] &&
    [ "$(inside c1 cat /var/lib/glasshive/controller/schema)" = 2 ] && all_linked
}
back=(-e "glasshive_bundle=$packages" -e artifact_allow_downgrade=true)
back_refused() {
  ! play rollback-refused upgrade "${back[@]}" || { echo "went back without being told what to do with the databases"; return 1; }
  grep -q 'artifact_restore=true' "$work/play-rollback-refused.log" && all_at 0.2.0-1 2 && all_linked
}
back_with_copies() {
  visit_arrives 5203 || return 1
  ids >"$work/ids.before"
  play rollback upgrade "${back[@]}" -e artifact_restore=true || return 1
  all_at 0.1.0-1 1 && until_true 30 all_linked && visit_arrives 5204 || return 1
  until_true 30 none_lost "$work/ids.before" || return 1
  inside c1 sh -c 'test -d /var/lib/glasshive/controller/aside-schema2-*/log' && inside n1 sh -c 'test -d /var/lib/glasshive/decoys/aside-schema2-*/journal' &&
    grep -q 'the newer database is kept as' "$work/play-rollback.log"
}

check "another version and schema is there, built after the packages" another
check "upgrade: the controller first; nodes of the version before go on" controller_first
check "  … the nodes; copies are made, nothing lost" nodes_follow
check "  … the program of before refuses the newer database" older_refuses
check "rollback: refused where the database is newer, nothing changed" back_refused
check "  … with the copies put back: nothing lost, nothing twice" back_with_copies
