# What the segment sees.
# shellcheck shell=bash

# The decoy's banner on decoys' addresses, and the management sshd's nowhere.
banners() {
  local address said mine
  mine=$(inside n1 python3 -c "import socket; s = socket.create_connection(('10.99.0.11', 22), 3); print(s.recv(99).decode().strip())")
  for address in 10.66.7.10 fd66:7::10 10.67.7.10 fd67:7::10; do
    said=$(banner $address 22) || { echo "$address: no banner"; return 1; }
    case $said in SSH-2.0-OpenSSH*) ;; *) echo "$address: $said"; return 1 ;; esac
    echo "$address: $said (management: $mine)"
  done
  # The host key tells whose it is.
  ! at att ssh-keyscan -T 5 -t ed25519 10.66.7.10 2>/dev/null | found -F "$(cut -d' ' -f3 "$work/known_hosts" | sed -n 2p)"
}
management_hidden() {
  shut at att 10.66.0.11,22 fd66::11,22 10.99.0.11,22 10.67.0.12,22 || return 1
  # Its address is not told by ARP either; a decoy's is.
  ! at att arping -q -c2 -w2 -I lan 10.99.0.11 || { echo "ARP tells the management address"; return 1; }
  at att arping -q -c1 -w2 -I lan 10.66.7.10
}

# sweep: every address of the dark range accepts on a port nobody configured; both families.
sweep() { at att python3 - "$1" "$2" <<'END'
import ipaddress, socket, sys
first, count = ipaddress.ip_address(sys.argv[1]), int(sys.argv[2])
silent = []
for step in range(count):
    try:
        socket.create_connection((str(first + step), 4000 + step), timeout=3).close()
    except OSError as error:
        silent.append(f"{first + step}: {error}")
print(count - len(silent), "of", count, "accept", *silent[:5])
sys.exit(bool(silent))
END
}
# Closed ports of a host are reset at once, and UDP ports refused.
closed() { at att python3 - "$1" <<'END'
import socket, sys
try:
    socket.create_connection((sys.argv[1], 4444), timeout=3)
    sys.exit("open")
except ConnectionRefusedError:
    pass
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as udp:
    udp.settimeout(3)
    udp.connect((sys.argv[1], 4444))
    udp.send(b"?")
    try:
        udp.recv(9)
        sys.exit("an answer")
    except ConnectionRefusedError:
        pass
END
}
asked() { at att dig +time=2 +tries=1 "@$1" host.corp.example a >"$work/dig" 2>&1 && grep -q 'status:' "$work/dig" || { cat "$work/dig"; return 1; }; }
# The session of a sweep carries the address and port that were dialled.
tuple_there() { sessions --since 10m --limit 1000 | found -F '"destination":{"ip":"10.66.7.40","port":4008}'; }
tuple_kept() { until_true 20 tuple_there; }

check "banner: decoys' sshd on decoys' addresses, not the management's" banners
check "management: no port, no ARP on the segment; a decoy's ARP is answered" management_hidden
check "AnyIP and catch-all, IPv4: 64 of 64 addresses, each another port" sweep 10.66.7.32 64
check "AnyIP and catch-all, IPv6: 64 of 64 addresses, each another port" sweep fd66:7::20 64
check "  … with the dialled address and port in the session" tuple_kept
check "closed ports of a host: reset, refused (IPv4)" closed 10.66.7.10
check "closed ports of a host: reset, refused (IPv6)" closed fd66:7::10
check "UDP: a name is asked for (IPv4)" asked 10.66.7.10
check "UDP: a name is asked for (IPv6)" asked fd66:7::10
