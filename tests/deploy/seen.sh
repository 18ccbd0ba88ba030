# What the steps look at.
# shellcheck shell=bash

sessions() { inside c1 glasshive --json sessions "$@"; }

# opened NAMESPACE FAMILY ADDRESS PORT: a TCP connection comes about.
opened() { at "$1" python3 - "$3" "$4" <<'END'
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2).close()
END
}
opened_in() { inside "$1" python3 -c "import socket; socket.create_connection(('$2', $3), timeout=2).close()"; }
refused_in() { ! opened_in "$@" 2>/dev/null; }

# banner ADDRESS PORT: first line a visitor from the segment is told.
banner() { at att python3 - "$1" "$2" <<'END'
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as visitor:
    visitor.settimeout(5)
    print(visitor.recv(256).split(b"\n")[0].decode("latin-1").strip())
END
}

active() { [ "$(inside "$1" systemctl is-active "$2")" = active ]; }
linked() { inside c1 glasshive --json nodes | grep "\"node\":\"$1\"" | found '"connected":true'; }
all_linked() { linked n1 && linked n2 && linked s1; }
