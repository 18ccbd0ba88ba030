# Somebody on the segment says that he is one of us: blocked, counted, told. Each with an honest twin.
# shellcheck shell=bash

# claim KIND ADDRESS: answer and ask are ARP, advertise is neighbour discovery, send is a TCP SYN from that address.
claim() { at att python3 - "$1" "$2" <<'END'
import ipaddress, socket, struct, sys
kind, address = sys.argv[1], ipaddress.ip_address(sys.argv[2])
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packet.bind(("lan", 0))
mac = packet.getsockname()[4]
def total(data):
    data += b"\0" * (len(data) % 2)
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    value = (value & 0xffff) + (value >> 16)
    return ~(value + (value >> 16)) & 0xffff
def six(source, destination, header, body, at):
    ends = source.packed + destination.packed
    mark = total(ends + struct.pack("!II", len(body), header) + body)
    return struct.pack("!IHBB", 6 << 28, len(body), header, 255) + ends + body[:at] + struct.pack("!H", mark) + body[at + 2:]
def four(source, destination, body, at):
    ends = source.packed + destination.packed
    mark = total(ends + struct.pack("!HH", 6, len(body)) + body)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 7, 0, 64, 6, 0) + ends
    return head[:10] + struct.pack("!H", total(head)) + head[12:] + body[:at] + struct.pack("!H", mark) + body[at + 2:]
def node():  # the hardware address of the node's port
    with socket.create_connection(("10.66.7.10", 22), 3):
        pass
    rows = [line.split() for line in open("/proc/net/arp")]
    return bytes.fromhex(next(row[3] for row in rows if row[0] == "10.66.7.10").replace(":", ""))
everybody = b"\xff" * 6
syn = struct.pack("!HHIIBBHHH", 40000, 22, 7, 0, 5 << 4, 2, 1024, 0, 0)
if kind in ("answer", "ask"):
    operation = 2 if kind == "answer" else 1
    frame = everybody + mac + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, operation) + mac + address.packed + everybody + address.packed
elif kind == "advertise":
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.packed + b"\x02\x01" + mac
    sender = ipaddress.ip_address("fd66::99")
    frame = b"\x33\x33\0\0\0\x01" + mac + b"\x86\xdd" + six(sender, ipaddress.ip_address("ff02::1"), 58, body, 2)
elif address.version == 6:
    frame = node() + mac + b"\x86\xdd" + six(address, ipaddress.ip_address("fd66:7::10"), 6, syn, 16)
else:
    frame = node() + mac + b"\x08\x00" + four(address, ipaddress.ip_address("10.66.7.10"), syn, 16)
packet.send(frame)
END
}
arp_counter() { inside n1 nft -j list counter arp glasshive_wall "$1" | grep -o '"packets": *[0-9]*' | tr -dc 0-9; }
spoofs() { case $1 in answer | ask) arp_counter arp_spoofed ;; advertise) counter n1 glasshive_wall nd_spoofed ;; send) counter n1 glasshive_wall ip_spoofed ;; esac; }
told_of() { inside c1 glasshive --json tail --since "$spoofs_began" --limit 1000 --kind blocked --node n1 | grep -F "\"prefix\":\"glasshive-wall $1\"" | found -F "$2"; }
# spoofed KIND CLAIMED HONEST PREFIX WORD HONEST-WORD: the claim is counted and told with WORD in it, the honest one not.
spoofed() {
  local kind=$1 claimed=$2 honest=$3 prefix=$4 word=$5 not=$6 before
  before=$(spoofs "$kind")
  claim "$kind" "$honest" && claim "$kind" "$honest" || return 1
  [ "$(spoofs "$kind")" = "$before" ] || { echo "an honest packet was blocked"; return 1; }
  claim "$kind" "$claimed" || return 1
  more() { [ "$(spoofs "$kind")" -gt "$before" ]; }
  until_true 2 more || { echo "not counted: $before"; return 1; }
  until_true 5 told_of "$prefix" "$word" || { echo "no event"; inside c1 glasshive --json tail --since "$spoofs_began" --kind blocked --node n1; return 1; }
  ! told_of "$prefix" "$not" || { echo "an honest packet is told of"; return 1; }
}
spoofs_began=$(date -u +%Y-%m-%dT%H:%M:%SZ)
# What is claimed by nobody is asked and answered as ever.
honest_arp() { at att arping -q -c1 -w2 -I lan 10.66.7.10; }

check "ARP: an answer that claims a decoy's address is blocked, counted, told; an honest one is not" spoofed answer 10.66.7.10 10.66.0.50 arp '"ip":"10.66.7.10"' '"ip":"10.66.0.50"'
check "ARP: a question that claims the node's address, the same" spoofed ask 10.66.0.11 10.66.0.50 arp '"ip":"10.66.0.11"' '"ip":"10.66.0.50"'
check "ND: an advertisement of a decoy's address, the same" spoofed advertise fd66:7::10 fd66::50 nd fd660007000000000000000000000010 fd660000000000000000000000000050
check "IPv4: a packet from a decoy's address, the same" spoofed send 10.66.7.40 10.66.0.50 spoofed '"ip":"10.66.7.40"' '"ip":"10.66.0.50"'
check "IPv6: a packet from a decoy's address, the same" spoofed send fd66:7::21 fd66::50 spoofed '"ip":"fd66:7::21"' '"ip":"fd66::50"'
check "  … and who asks honestly is answered" honest_arp

# Somebody with root on the node changes one rule: not the wall that was deployed, until it is loaded anew.
changed_rule() {
  inside n1 nft insert rule inet glasshive_wall input iifname dcy tcp dport 4444 counter accept
  until_true 5 hushed && until_true 10 wall_blamed
  local status=$?
  inside n1 systemctl reload nftables
  until_true 10 banner 10.66.7.10 22 && [ $status = 0 ]
}
hushed() { ! banner 10.66.7.10 22 2>/dev/null; }
wall_blamed() { { inside c1 glasshive --json doctor || true; } | grep '"about":"node n1"' | found "is not the one that was deployed"; }

check "a wall with another rule does not stand: decoys silent, doctor says so" changed_rule
