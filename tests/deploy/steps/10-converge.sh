# From clean hosts to a deployment, and that a second time changes nothing.
# shellcheck shell=bash

collection() {
  mkdir -p "$work/collections"
  (cd "$work" && "$cache/venv/bin/ansible-galaxy" collection build --force "$root/ansible" --output-path "$work") &&
    "$cache/venv/bin/ansible-galaxy" collection install --offline --force -p "$work/collections" "$work"/glasshive-honeynet-*.tar.gz
}

# A net without its retention: stops, names file, key and remedy, touches nobody.
demanded() {
  local nets='{"glasshive_nets": {"lan": {"vantage": "inside", "owner": "o", "purpose": "p", "legal_basis": "l", "pause_criteria": "c"}}}'
  ! play demanded site -e "$nets" >/dev/null || { echo "a net without retention was taken"; return 1; }
  grep -q 'glasshive_nets.lan.retention is missing: *say how long' <(tr '\n' ' ' <"$work/play-demanded.log" | tr -s ' ') || { tail -30 "$work/play-demanded.log"; return 1; }
  for name in c1 n1 n2 s1 gw; do inside $name test ! -e /etc/glasshive; done
}

unchanged() { [ "$(recap "$1" changed)" = 0 ] || { grep -B3 '^changed' "$work/play-$1.log"; return 1; }; }
untouched() { for name in $hosts; do inside "$name" test ! -e /etc/glasshive || { echo "$name was changed"; return 1; }; done; }

# What people agree to stands in the output: scope, owner, purpose, legal basis, retention, pause criteria.
termed() { # LABEL WORDS…
  local said words label=$1; shift
  said=$(tr '\n' ' ' <"$work/play-$label.log" | tr -s ' ')
  for words in 'purpose acceptance; legal basis own lab' "$@"; do
    found -F "$words" <<<"$said" || { echo "not printed: $words"; return 1; }
  done
  [ "$(recap "$label" failed)" = 0 ] && [ "$(recap "$label" unreachable)" = 0 ]
}
lan_termed() { termed first 'net lan (inside): owner blue team' 'kept 30d; paused never' && ! grep 'net edge' "$work/play-first.log"; }
# Another net, while the first goes on: its node is linked, and nothing changed on the hosts of the first.
net_added() {
  play added site && termed added 'net edge (edge): owner blue team' 'kept 14d; paused never' || return 1
  local name
  for name in n1 s1; do
    sed -n '/^PLAY RECAP/,$p' "$work/play-added.log" | grep "^$name " | found 'changed=0 ' || { grep -B3 "^changed: .$name" "$work/play-added.log"; return 1; }
  done
  all_linked && banner 10.67.7.10 22
}

# A TCP or UDP packet the wall did not let out would be told.
tried_out() { inside c1 glasshive --json tail --since 1h --limit 1000 --kind blocked | grep '"direction":"out"' | found -E '"protocol":(6|17),'; }
quiet() { ! tried_out || { inside c1 glasshive tail --since 1h --kind blocked; return 1; }; }

inventory
check "collection builds and installs" collection
check "a net without retention is refused: file, key, remedy; no host touched" demanded
check "site --check on clean hosts" play clean site --check
check "  … changed nothing" untouched
check "site: first converge" play first site -vv
check "  … printed every net's terms, nothing failed" lan_termed
check "  … nothing dialled out: no node tried to leave" quiet
inventory edge
check "a net is added: its node is linked, nothing changes where the first one is" net_added
# Both go on while the steps do that only look; 35-checked.sh says what came of them.
aside checked play checked site --check
aside second play second site
# A token looks like this; none may be found in what the plays printed, with the most words they have, nor in what the
# hosts' journals kept of it. A real one, printed by a task without no_log, is found: the search would see it.
token_shape='gh1\.[a-z0-9_-]+\.[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}'
no_token() {
  local token name
  token=$(inside c1 glasshive --json enroll shape --net lan --role decoys --ttl 1m | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])')
  inside c1 glasshive revoke shape --reason acceptance >/dev/null 2>&1 || true
  ANSIBLE_CONFIG=$work/ansible.cfg NO_COLOR=1 "$cache/venv/bin/ansible" localhost -vv -m ansible.builtin.debug -a "msg=$token" >"$work/leak.log" 2>&1
  found -E "$token_shape" "$work/leak.log" || { echo "a token that is printed is not found"; cat "$work/leak.log"; return 1; }
  rm -f "$work/leak.log"
  ! grep -nE "$token_shape" "$work"/play-*.log || return 1
  for name in n1 s1 c1; do
    inside $name journalctl -o cat | found 'Invoked with' || { echo "$name: its journal knows of no task"; return 1; }
    ! inside $name journalctl -o cat | grep -E "$token_shape" || { echo "$name: a token is in its journal"; return 1; }
  done
}
check "no token in the plays' output or the hosts' journals; one that is printed is found" no_token
