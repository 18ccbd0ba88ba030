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
# shut at|inside HOST ADDRESS,PORT…: none of them comes about, all tried at once; names those that did.
shut() { "$1" "$2" python3 - "${@:3}" <<'END'
import select, socket, sys, time
tries, end = {}, time.monotonic() + 2
for target in sys.argv[1:]:
    address, port = target.rsplit(",", 1)
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    one.setblocking(False)
    one.connect_ex((address, int(port)))
    tries[one] = target
opened = []
while tries and (left := end - time.monotonic()) > 0:
    for one in select.select([], list(tries), [], left)[1]:
        target = tries.pop(one)
        # Only a connection has another end; one that failed at once has no error left to ask for.
        try:
            one.getpeername()
            opened.append(target)
        except OSError:
            pass
sys.exit(f"open: {' '.join(opened)}" if opened else 0)
END
}

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
