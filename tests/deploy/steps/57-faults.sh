# What fails is said in one line, nothing leaks and nothing is lost: a full disk, a pulled link, a wall that locks its
# own operator out.
# shellcheck shell=bash

troubles() { { inside c1 glasshive --json doctor 2>/dev/null || true; } | grep '"type":"trouble"'; }
# doctor_says ABOUT WORD: a trouble with that, its remedy, and an exit code that is not 0.
doctor_says() {
  ! inside c1 glasshive doctor >"$work/doctor" 2>&1 || { echo "doctor is content"; return 1; }
  troubles | grep -F "\"about\":\"$1\"" | grep -F "$2" | found -F '"remedy":"'
}
doctor_content() { ! troubles | grep -F "\"about\":\"$1\"" | found -F "\"code\":\"$2\""; }
lines() { inside "$1" journalctl -u "$2" --since "$3" -o cat | grep -c -F "$4"; }
fill() { ! inside "$1" dd if=/dev/zero of=/var/hog bs=1M 2>/dev/null; inside "$1" sh -c 'cat /dev/zero >>/var/hog' 2>/dev/null; [ "$(inside "$1" df --output=avail -k / | tail -1 | tr -d " ")" -lt 64 ]; }
empty() { inside "$1" rm -f /var/hog; }
# knock ADDRESS PORT…: one visit each to an address that nothing else visits at these ports.
knock() { at att python3 - "$@" <<'END'
import socket, sys
for port in sys.argv[2:]:
    socket.create_connection((sys.argv[1], int(port)), timeout=10).close()
END
}
visited() { sessions --since 10m --limit 5000 | grep -cF "\"destination\":{\"ip\":\"$1\",\"port\":$2}"; }
once() { local to=$1 port; shift; for port in "$@"; do [ "$(visited "$to" "$port")" = 1 ] || { echo "port $port: $(visited "$to" "$port") sessions"; return 1; }; done; }
one_line() { # host unit since words
  local count; count=$(lines "$@")
  [ "$count" = 1 ] || { echo "$count lines"; inside "$1" journalctl -u "$2" --since "$3" -o cat; return 1; }
}
lan=10.66.7.78 edge=10.67.7.78

# The node's disk: its journal pauses, visitors wait; with room, everything arrives, once.
node_full() {
  # What comes makes the journal look; the second waits for it.
  fill n1 && knock $lan 6001 && until_true 15 doctor_says "node n1" "/var/lib/glasshive/decoys/journal: 0 MiB free" && knock $lan 6002
}
play_refuses() {
  ! play full site --limit n1 >/dev/null || { echo "the play went on"; return 1; }
  grep -A5 '^fatal:' "$work/play-full.log"
  [ "$(grep -c '^fatal:' "$work/play-full.log")" = 1 ] && tr '\n' ' ' <"$work/play-full.log" | tr -s ' ' | found -F 'n1: / has 0 MiB free, 128 MiB are needed: make room there'
}
node_room() {
  empty n1
  until_true 20 once $lan 6001 6002 && knock $lan 6003 && until_true 20 once $lan 6003 && until_true 20 doctor_content "node n1" disk || return 1
  inside c1 glasshive --json tail --since 5m --kind loss --node n1 | found accept_paused || { echo "the pause is not in the log"; return 1; }
  [ "$(gaps)" = "$gaps_before" ] || { echo "$gaps_before gaps before, $(gaps) now"; return 1; }
}

# The controller's disk: nodes are told to wait and keep what they have.
controller_full() { fill c1 && until_true 15 doctor_says store "/var/lib/glasshive/controller: free space is under the floor"; }
decoys_go_on() { banner 10.67.7.10 22 && knock $edge 6004 6005; }
controller_room() { empty c1; until_true 60 once $edge 6004 6005 && until_true 20 doctor_content store disk; }

# A ruleset that names another operator: the old one comes back by itself, as the file, too.
wall_of() { inside n2 nft -s list table inet glasshive_wall | sha256sum; }
ssh_open() { opened op 4 10.99.0.12 22 2>/dev/null; }
locked_out() {
  before=$(wall_of) file_before=$(inside n2 sha256sum /etc/nftables.conf)
  play locked site --limit n2 --tags honeywall -e '{"glasshive_admins": ["10.99.0.99"], "honeywall_rollback": 6}' >/dev/null 2>&1 &
  local player=$!
  ssh_shut() { ! ssh_open; }
  until_true 60 ssh_shut || { echo "the bad ruleset was never loaded"; tail -20 "$work/play-locked.log"; return 1; }
  [ "$(wall_of)" != "$before" ] || return 1
  until_true 30 ssh_open || { echo "management stays away"; return 1; }
  [ "$(wall_of)" = "$before" ] || { echo "another ruleset is loaded"; return 1; }
  [ "$(inside n2 sha256sum /etc/nftables.conf)" = "$file_before" ] || { echo "the file a boot loads is the bad one"; return 1; }
  ! wait $player || { echo "the play was content"; return 1; }
  banner 10.67.7.10 22
}
# The twin: a change that lets the operator in stays.
let_in() {
  play changed site --limit n2 --tags honeywall -e '{"honeywall_time_servers": ["10.99.0.123"], "honeywall_rollback": 15}' || return 1
  ! inside n2 systemctl is-active glasshive-wall-rollback.timer || { echo "the rollback is armed still"; return 1; }
  inside n2 nft list set inet glasshive_wall time4 | found 10.99.0.123
}

# The management link, pulled until the controller misses the node; what happens meanwhile is there afterwards, once.
away() { doctor_says "node n1" "not connected" && inside c1 glasshive nodes | grep '^n1 ' | found away; }
pull() { ip -n "$(ns sw)" link set v-n1-mgmt down; banner 10.66.7.10 22 && knock $lan 6011 6012 6013; }
missed() { until_true 90 away && knock $lan 6014; }
alarmed() { until_true 20 found "$1" "$work/hooks" && until_true 20 found "$2" "$work/syslog"; }
plugged() {
  ip -n "$(ns sw)" link set v-n1-mgmt up
  until_true 60 linked n1 && until_true 30 once $lan 6011 6012 6013 6014 || return 1
  caught_up() { inside c1 glasshive --json nodes | grep '"node":"n1"' | found '"records_behind":0'; }
  until_true 20 caught_up || return 1
  [ "$(gaps)" = "$gaps_before" ] || { echo "$gaps_before gaps before, $(gaps) now"; return 1; }
}

# A rollback has left some.
gaps() { inside c1 glasshive --json nodes | grep '"node":"n1"' | grep -o '"gap_count":[0-9]*'; }
gaps_before=$(gaps)
full_since=$(date '+%F %T')
check "a node's disk is full: doctor names host, path and remedy, exit code not 0" node_full
check "  … its daemon says so in one line" one_line n1 glasshive-decoys "$full_since" "the journal accepts nothing until this is over"
check "  … the play refuses the host in one line" play_refuses
check "  … with room: everything arrives, once; the pause is in the log, no gap" node_room
# Those below need no word of n1: the controller takes its time to miss it.
check "management link pulled: decoys go on" pull
check "the controller's disk is full: doctor names path and remedy, exit code not 0" controller_full
check "  … its daemon says so in one line" one_line c1 glasshive-controller "$full_since" "free space is under the floor"
check "  … somebody was told" alarmed '"about":"store".*under the floor' 'store.*under the floor'
check "  … decoys go on meanwhile" decoys_go_on
check "  … with room: everything arrives, once" controller_room
check "a ruleset that locks the operator out is taken back, as the file, too" locked_out
check "  … one that lets him in stays" let_in
check "the link away for long: doctor and nodes name the node" missed
check "  … and somebody was told" alarmed '"about":"node n1".*not connected' 'n1.*not connected'
check "  … plugged in: backlog 0, everything there once, no gap" plugged
