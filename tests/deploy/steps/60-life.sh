# What happens when parts of it fail, and how it is taken away.
# shellcheck shell=bash

answers() { banner 10.66.7.10 22; }
silent() { ! answers 2>/dev/null; }
# systemd brings a killed daemon back, and the controller sees it again.
killed() {
  local before; before=$(inside "$1" systemctl show -p MainPID --value "$2")
  inside "$1" kill -KILL "$before"
  back() { local now; now=$(inside "$1" systemctl show -p MainPID --value "$2"); [ "$now" != 0 ] && [ "$now" != "$before" ] && active "$1" "$2"; }
  until_true 30 back "$1" "$2"
}
# The wall gone: no decoy answers within 5 s, doctor says why and what helps, the capture goes on; its service stopped: the
# decoys' stops before it. Back: they answer.
wall_gone() {
  wall_since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  inside n1 nft delete table inet glasshive_wall
  until_true 5 silent && until_true 10 doctor_says "node n1" "its wall does not stand" && captured_meanwhile
  local status=$?
  inside n1 systemctl stop nftables
  until_true 5 silent && until_true 10 doctor_says "node n1" "not connected" || status=1
  inside n1 systemctl start nftables
  until_true 30 answers && [ $status = 0 ] || return 1
  until_true 20 doctor_content "node n1" wall && until_true 20 doctor_content "node n1" away || return 1
  wall_told() { inside c1 glasshive --json tail --since "$wall_since" --limit 1000 --kind health --node n1 | found "the wall $1"; }
  until_true 10 wall_told "does not stand" && until_true 10 wall_told stands
}
# A visit nobody answers is in the sensor's ring all the same.
captured_meanwhile() {
  knock 10.66.7.79 6021 2>/dev/null
  caught() {
    inside s1 rm -f /tmp/meanwhile.pcapng
    inside s1 runuser -u glasshive-sensor -- glasshive-sensor carve --since 1m --host 10.66.7.79 --out /tmp/meanwhile.pcapng
    inside s1 cat /tmp/meanwhile.pcapng | tshark -r - -Y 'tcp.dstport == 6021' 2>/dev/null | found .
  }
  until_true 10 caught
}
# A guest that boots again comes up walled, with its decoys, and linked.
rebooted() {
  halt n1
  find "$cgroup/$(ns n1)" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  boot n1
  until_true 60 booted n1
  inside n1 nft list table inet glasshive_wall >/dev/null && until_true 30 answers && until_true 30 linked n1
}
# A token is good once, and its refusal says why in one line.
token_once() {
  local token said
  token=$(inside c1 glasshive --json enroll spare --net lan --role decoys --ttl 5m | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
  inside s1 sh -c "printf 'interface = \"cap\"\n' >/tmp/spare.toml"
  inside c1 glasshive --json enroll spare --net lan --role sensor --ttl 5m >/dev/null
  said=$(inside s1 glasshive-sensor --config /tmp/spare.toml --state-dir /tmp/spare identity join - --controller 10.99.0.10:7443 2>&1 <<<"$token") && { echo "a void token was taken"; return 1; }
  echo "$said"
  [ "$(wc -l <<<"$said")" = 1 ]
}
# The pin is another one, no step is left to make, and nodes trust nothing else.
rotated() {
  local before after
  before=$(inside c1 glasshive --json rotate | grep -o '"pins":\[[^]]*\]')
  play rotate rotate -e rotate_keys=true || return 1
  after=$(inside c1 glasshive --json rotate)
  [[ $after == *'"phase":"settled"'* && $after == *'"behind":[]'* && $after != *"$before"* ]] || { echo "$before, then $after"; return 1; }
  inside n1 runuser -u glasshive-decoys -- glasshive-decoys identity show | found "$(grep -o '"pins":\["[0-9a-f]*' <<<"$after" | grep -o '[0-9a-f]*$')" || return 1
  until_true 30 all_linked
}
evidence_kept() {
  play reset reset || return 1
  inside c1 sh -c 'test ! -e /usr/bin/glasshive && test -d /var/lib/glasshive/controller/log' || { echo "controller: program left or records gone"; return 1; }
  inside n1 sh -c 'test ! -e /etc/glasshive && test ! -e /usr/bin/glasshive-decoys && test -d /var/lib/glasshive/decoys/journal' || return 1
  [ -z "$(inside n1 nft list ruleset)" ]
}
forgotten() {
  play forget reset -e '{"glasshive_forget": ["lan", "edge"]}' || return 1
  local name left
  for name in $hosts; do
    left=$(inside "$name" sh -c 'find /etc /usr /var /run -name "*glasshive*" -not -path "/var/log/*" 2>/dev/null; find /etc -name "nftables.conf.*"')
    [ -z "$left" ] || { echo "$name: $left"; return 1; }
  done
}

check "kill -9 of the decoys: back" killed n1 glasshive-decoys
check "kill -9 of the sensor: back" killed s1 glasshive-sensor
check "kill -9 of the controller: back" killed c1 glasshive-controller
check "  … and all nodes linked again" until_true 60 all_linked
check "wall unloaded or stopped: decoys silent within 5 s, doctor says so, the capture goes on; back: told, too" wall_gone
check "a node that boots again is walled, answers, is linked" rebooted
check "a void token is refused in one line" token_once
# The link's process outlives its daemon, so that it can bring the last words over; every stop of the run is looked at.
stopped_well() {
  local one host unit
  for one in n1:glasshive-decoys n2:glasshive-decoys s1:glasshive-sensor; do
    IFS=: read -r host unit <<<"$one"
    inside "$host" systemctl restart "$unit" && until_true 20 linked "$host" || return 1
    ! inside "$host" journalctl -u "$unit" -o cat | grep -F "the link's keeper ended" || { echo "$host: its link ended first"; return 1; }
  done
}
check "stopped and started: each link was the last to go" stopped_well
check "rotate: another authority in three steps, then new keys; nobody cut off" rotated
# One node goes, the rest stays.
removed_one() {
  play gone reset --limit n2 || return 1
  inside c1 glasshive --json nodes | grep '"node":"n2"' | found '"state":"revoked"' || { echo "n2 is not revoked"; return 1; }
  inside n2 sh -c 'test ! -e /usr/bin/glasshive-decoys && test -d /var/lib/glasshive/decoys/journal' && linked n1 && answers
}
check "one node is removed and revoked; the others stay" removed_one
check "reset takes all away but what was recorded" evidence_kept
check "reset with the nets' names takes that too" forgotten
