# The deployer's first hour, as far as it needs visitors: wrong passwords, and people who are told.
# shellcheck shell=bash

# One connection, three wrong passwords: one session with three logins, there within a second of its end.
three_wrong() {
  printf '#!/bin/sh\necho wrong\n' >"$work/askpass"
  chmod 755 "$work/askpass"
  at att python3 - "$work/askpass" <<'END' || true
import os, subprocess, sys
environment = dict(os.environ, SSH_ASKPASS=sys.argv[1], SSH_ASKPASS_REQUIRE="force")
options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "PreferredAuthentications=password",
           "NumberOfPasswordPrompts=3", "LogLevel=ERROR"]
words = [word for option in options for word in ("-o", option)]
subprocess.run(["ssh", *words, "guest-of-three@10.66.7.10", "true"], env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
END
  local ended; ended=$(date +%s%N)
  until three_there; do
    [ $((($(date +%s%N) - ended) / 1000000)) -lt 1000 ] || { echo "not there within a second:"; cat "$work/three"; return 1; }
  done
}
# ssh asks first which ways there are; that is no password.
three_there() {
  local visit
  inside c1 glasshive --json sessions --since 2m --service ssh --limit 1000 | grep guest-of-three >"$work/three"
  [ "$(wc -l <"$work/three")" = 1 ] || return 1
  visit=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["session"])' "$work/three")
  inside c1 glasshive --json session "$visit" | grep '"kind":"login"' >"$work/three"
  [ "$(grep -c '"method":"password"' "$work/three")" = 3 ]
}

# The receivers are the operator's: one checks the signature, one reads RFC 5424 in octets. They live until the run ends.
: >"$work/hooks"
: >"$work/syslog"
inside c1 cat /etc/glasshive/webhook.key >"$work/webhook.key"
at op python3 "$root/tests/data/webhook.py" "$work/hooks" "$work/webhook.key" 0 8090 10.99.0.2 >"$work/webhook.log" 2>&1 &
at op python3 - "$work/syslog" >"$work/syslog.log" 2>&1 <<'END' &
import asyncio, re, sys
async def note(reader, writer):
    while size := (await reader.readuntil(b" ")).decode():
        line = (await reader.readexactly(int(size))).decode()
        assert re.match(r"<\d+>1 \S+ \S+ glasshive ", line), line
        with open(sys.argv[1], "a") as out:
            print(line, file=out)
async def main():
    await asyncio.start_server(note, "10.99.0.2", 8514)
    await asyncio.Event().wait()
asyncio.run(main())
END
receiving() {
  [ "$(wc -c <"$work/webhook.key")" -gt 16 ] && until_true 10 opened op 4 10.99.0.2 8090 && until_true 10 opened op 4 10.99.0.2 8514
}
told() {
  inside c1 glasshive notify test || return 1
  until_true 5 found -F '"kind":"test"' "$work/hooks" && until_true 5 found -i test "$work/syslog" || { cat "$work/hooks" "$work/syslog" "$work"/*log; return 1; }
}

check "three wrong ssh passwords: one session with three logins, within a second" three_wrong
check "receivers of notifications: signature checked, syslog read" receiving
check "notify test arrives at both" told
