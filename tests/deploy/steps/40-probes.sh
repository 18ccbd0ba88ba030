# Blocked and open, always in pairs.
# shellcheck shell=bash

listener() { # namespace port…: accepts on both families until the run ends
  at "$1" python3 - "${@:2}" >/dev/null 2>&1 <<'END' &
import asyncio, sys
async def main():
    for port in sys.argv[1:]:
        await asyncio.start_server(lambda reader, writer: writer.close(), ["0.0.0.0", "::"], int(port))
    await asyncio.Event().wait()
asyncio.run(main())
END
}
counter() { inside "$1" nft -j list counter inet "$2" "$3" | python3 -c 'import json, sys; print([c["counter"]["packets"] for c in json.load(sys.stdin)["nftables"] if "counter" in c][0])'; }

listener out 80
until_true 10 opened out 4 203.0.113.9 80
listener op 8000

# Blocked from a node, open for the attacker on the same segment.
outside() { opened att "$1" "$2" 80 || { echo "the way out is not there for anybody"; return 1; }; shut inside n1 "$2,80"; }
controller_only() {
  opened op 4 10.99.0.10 22 && opened op 4 10.99.0.2 8000 || { echo "twin is closed"; return 1; }
  shut inside n1 10.99.0.10,22 10.99.0.2,8000 && opened_in n1 10.99.0.10 7443 && shut inside n2 10.99.0.10,7443
}
management_ssh() { opened op 4 10.99.0.11 22 && opened op 6 fd99::11 22 && shut inside c1 10.99.0.11,22 fd99::11,22; }
# With routing turned on behind the wall's back, the wall alone keeps the segment from the management network.
pivot() {
  local before; before=$(counter n1 glasshive_wall forward_blocked)
  at att ip route add 10.99.0.0/24 via 10.66.0.11
  at att ip -6 route add fd99::/64 via fd66::11
  at n1 sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  shut at att 10.99.0.10,7443 fd99::10,22
  local status=$?
  at n1 sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
  at att ip route del 10.99.0.0/24 via 10.66.0.11
  at att ip -6 route del fd99::/64 via fd66::11
  [ "$(counter n1 glasshive_wall forward_blocked)" -gt "$before" ] && [ $status = 0 ]
}
# Root on a node takes the node's own wall away: the gateway still holds, and counts.
second_layer() {
  local before status=0; before=$(counter gw glasshive_gateway forward_blocked)
  inside n1 nft 'add chain inet glasshive_wall output { policy accept; }'
  inside n1 nft insert rule inet glasshive_wall output accept
  # Both families, and the other net.
  shut inside n1 203.0.113.9,80 2001:db8:ffff::9,80 10.67.7.10,22 || status=1
  inside n1 systemctl reload nftables
  [ "$(counter gw glasshive_gateway forward_blocked)" -gt "$before" ] || { echo "nothing was counted"; status=1; }
  return $status
}

reported() { python3 - "$work/inventory/verify-report.json" <<'END'
import json, sys
report = json.load(open(sys.argv[1]))
assert [flow for flow in report["mirror"] if flow["packets_in"] > 0 and flow["packets_out"] > 0], report["mirror"]
clocks = {node["node"]: node["clock_offset_ns"] for node in report["nodes"] if "clock_offset_ns" in node}
assert {"n1", "n2", "s1"} <= clocks.keys(), clocks
print(clocks)
END
}

# Goes on while the steps do that change nothing.
aside verify play verify verify
verified() { came_of verify || { cat "$work/verify.log"; return 1; }; }
check "node -> outside blocked, attacker -> outside open (IPv4)" outside 4 203.0.113.9
check "node -> outside blocked, attacker -> outside open (IPv6)" outside 6 2001:db8:ffff::9
check "  … and such an attempt is told" until_true 10 tried_out
check "node -> controller: its port only; none for the node that is dialled" controller_only
check "management ssh: open for the operator, blocked for others, both families" management_ssh
check "verify play: all pairs, a visit seen, roles, report" verified
check "  … wrote its report: both directions of the mirror, clocks" reported
check "no pivot: segment -> management through a routing node is dropped and counted" pivot
check "second layer: a node without its wall is held by the gateway, both families" second_layer
