# Real clients, from the segment to an export.
# shellcheck shell=bash

ssh_visit() {
  local out; out=$(at att sshpass -p 'Summer2026!' ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=password \
    -o LogLevel=ERROR deploy@10.66.7.10 'uname -a; id' 2>&1) || { echo "$out"; return 1; }
  echo "$out"
  grep -q 'uid=' <<<"$out"
}
https_visit() { at att curl -sk --max-time 10 https://10.66.7.10/ -o "$work/page" && test -s "$work/page"; }
scan() { at att nmap -n -Pn -sT -p 21,22,23,80,443,8080 --host-timeout 60s 10.66.7.10 >"$work/nmap" && grep -q '22/tcp *open' "$work/nmap" && grep -q '8080/tcp *closed' "$work/nmap"; }
three_wrong() { at att sh -c 'sshpass -p wrong ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o NumberOfPasswordPrompts=1 -o LogLevel=ERROR nobody@10.66.7.10 true' 2>/dev/null; [ $? != 0 ]; }

visit_id() { sessions --since 10m --source 10.66.0.50 --service ssh --limit 200 | python3 -c '
import json, sys
rows = [json.loads(line) for line in sys.stdin if line.strip()]
rows = [row for row in rows if row.get("session") and "deploy" in json.dumps(row)]
print(rows[0]["session"]) if rows else sys.exit("no ssh session of deploy among %d" % 0)'; }
seen() { until_true 20 visit_id; visit_id; }
scan_there() { sessions --since 10m --source 10.66.0.50 --service telnet | found '"session"'; }
scan_seen() { until_true 30 scan_there; }
commands_seen() { local visit; visit=$(visit_id) && inside c1 glasshive session "$visit" | found 'uname -a'; }
exported() {
  local visit; visit=$(visit_id) || return 1
  inside c1 rm -rf /root/export-test
  inside c1 glasshive export session "$visit" --format decrypted --reason acceptance -o /root/export-test || return 1
  rm -rf "$work/export"; mkdir "$work/export"
  inside c1 tar -C /root/export-test -cf - . | tar -C "$work/export" -xf -
  find "$work/export" -type f
}
decrypted() {
  local file; file=$(find "$work/export" -name 'decrypted.pcapng' | head -1)
  [ -n "$file" ] || { find "$work/export"; return 1; }
  # What was typed and what came back are packets of the interface for derived ones; nothing has to be configured.
  [ "$(tshark -r "$file" -Y 'frame.interface_name == "derived-plaintext" && frame contains "uname -a"' 2>/dev/null | wc -l)" -ge 1 ] &&
    [ "$(tshark -r "$file" -Y 'frame.interface_name == "derived-plaintext" && frame contains "uid="' 2>/dev/null | wc -l)" -ge 1 ]
}
original() {
  local file; file=$(find "$work/export" -name 'original.pcapng' | head -1)
  [ "$(tshark -r "$file" -Y 'tcp.flags.syn==1 && tcp.dstport==22' 2>/dev/null | wc -l)" -ge 1 ]
}
# Both directions of the mirror: the visitor's segments and the decoy's, in the sensor's ring.
both_ways() {
  local file; file=$(find "$work/export" -name 'original.pcapng' | head -1)
  [ "$(tshark -r "$file" -Y 'ip.src==10.66.0.50' 2>/dev/null | wc -l)" -gt 3 ] && [ "$(tshark -r "$file" -Y 'ip.src==10.66.7.10' 2>/dev/null | wc -l)" -gt 3 ]
}

check "a real ssh logs in and types" ssh_visit
check "a real curl over TLS" https_visit
check "a real nmap" scan
check "ssh shows in sessions on the controller" seen
check "nmap shows in sessions on the controller" scan_seen
check "what was typed shows in the session" commands_seen
check "the session's packets are exported, with its secrets" exported
check "  … original.pcapng: its packets" original
check "  … both directions of the mirror" both_ways
check "  … decrypted.pcapng opens in tshark in clear" decrypted
