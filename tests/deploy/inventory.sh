# Writes the inventory of the lab: net lan, and when it is named net edge, whose node is dialled.
# shellcheck shell=bash

# inventory [edge]
inventory() {
  local dir=$work/inventory
  mkdir -p "$dir/personas"
  cat >"$dir/personas/web.toml" <<'END'
os = "debian12"
domain = "corp.example"
[[account]]
name = "deploy"
passwords = ["Summer2026!"]
[service.ssh]
[service.telnet]
[service.ftp]
[service.http]
[service.https]
[service.dns]
END
  cat >"$dir/personas/dark.toml" <<'END'
os = "debian12"
domain = "corp.example"
other_ports = "answer"
[service.generic_tcp]
ports = [9100]
END
  python3 - "$@" >"$dir/hosts.yml" <<'END'
import json, sys
def dark(net4, net6):
    return [f"{net4}.{last}" for last in range(32, 96)] + [f"{net6}::{last:x}" for last in range(0x20, 0x60)]
def node(host, net, four, six, **more):
    decoys = [
        {"name": f"web-{host}", "persona": "web", "addresses": [f"{four}.7.10", f"{six}:7::10"]},
        {"name": f"dark-{host}", "persona": "dark", "addresses": dark(f"{four}.7", f"{six}:7")},
    ]
    last = host[1]
    return {"ansible_host": f"10.99.0.1{last}", "glasshive_net": net, "glasshive_management_address": f"10.99.0.1{last}",
            "glasshive_management_more": [f"fd99::1{last}"], "glasshive_decoy_interfaces": ["dcy"],
            "glasshive_segment_addresses": [f"{four}.0.1{last}", f"{six}::1{last}"], "glasshive_decoys": decoys, **more}
decoys = {"n1": node("n1", "lan", "10.66", "fd66")}
if "edge" in sys.argv:
    decoys["n2"] = node("n2", "edge", "10.67", "fd67", glasshive_dial="controller")
print(json.dumps({"all": {"children": {
    "controllers": {"hosts": {"c1": {"ansible_host": "10.99.0.10", "glasshive_management_address": "10.99.0.10",
        "controller_notify": {"min_severity": "high", "check": "2s", "webhook": {"url": "http://10.99.0.2:8090/hook"},
            "syslog": {"address": "10.99.0.2:8514", "transport": "tcp"}}}}},
    "decoys": {"hosts": decoys},
    "sensors": {"hosts": {"s1": {"ansible_host": "10.99.0.13", "glasshive_net": "lan", "glasshive_management_address": "10.99.0.13",
        "glasshive_sensor_interface": "cap", "sensor_ring_quota": "512 MiB"}}},
    "gateways": {"hosts": {"gw": {"ansible_host": "10.99.0.14", "glasshive_management_address": "10.99.0.14",
        "glasshive_decoy_interfaces": ["lan", "edge"]}}},
}}}, indent=1))
END
  mkdir -p "$dir/group_vars"
  cat >"$dir/group_vars/all.yml" <<END
---
ansible_user: root
ansible_python_interpreter: /usr/bin/python3
glasshive_bundle: $packages
glasshive_management_interface: mgmt
glasshive_admins: [10.99.0.2, "fd99::2"]
glasshive_controller_address: 10.99.0.10
glasshive_personas: ["$dir/personas/web.toml", "$dir/personas/dark.toml"]
glasshive_nets:
  lan: {vantage: inside, owner: blue team, purpose: acceptance, legal_basis: own lab, retention: 30d, pause_criteria: never}
$([ "${1:-}" != edge ] || echo '  edge: {vantage: edge, owner: blue team, purpose: acceptance, legal_basis: own lab, retention: 14d, pause_criteria: never}')
glasshive_outside: [203.0.113.9, "2001:db8:ffff::9"]
END
  cat >"$work/ansible.cfg" <<END
[defaults]
home = $work/ansible
collections_path = $work/collections
inventory = $dir/hosts.yml
forks = 5
host_key_checking = true
nocows = true
result_format = yaml
callbacks_enabled = ansible.builtin.default
[ssh_connection]
pipelining = true
# Not the user's own: two labs have the same addresses, and a connection kept open leads into the wrong one.
control_path_dir = /tmp/$(ns cp)
ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=$work/known_hosts.addresses -o IdentityFile=$work/id -o IdentitiesOnly=yes -o ConnectTimeout=5 -o ServerAliveInterval=5 -o ServerAliveCountMax=3
END
  awk '{ n = $1; a["c1"] = 10; a["n1"] = 11; a["n2"] = 12; a["s1"] = 13; a["gw"] = 14; print "10.99.0." a[n] " " $2 " " $3 }' \
    "$work/known_hosts" >"$work/known_hosts.addresses"
}

# play NAME FLAG… : a playbook of the collection, from the operator's host. Its output is kept under its label.
play() {
  local label=$1 name=$2; shift 2
  ANSIBLE_CONFIG=$work/ansible.cfg NO_COLOR=1 timeout 300 ip netns exec "$(ns op)" \
    "$cache/venv/bin/ansible-playbook" "glasshive.honeynet.$name" "$@" >"$work/play-$label.log" 2>&1 ||
    { tail -n 40 "$work/play-$label.log"; return 1; }
}

# recap LABEL KEY: the sum over all hosts, such as of `changed`.
recap() { sed -n '/^PLAY RECAP/,$p' "$work/play-$1.log" | grep -o "$2=[0-9]*" | awk -F= '{ sum += $2 } END { print sum + 0 }'; }
