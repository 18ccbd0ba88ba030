#!/usr/bin/env bash
# The lab: hosts booted with systemd-nspawn on overlays of one root file system, joined by bridges in a switch's
# namespace. Nothing of it touches the machine's own network.
#
#              br-mgmt 10.99.0.0/24 fd99::/64:   op .2   c1 .10   n1 .11   n2 .12   s1 .13   gw .14
#   net lan:   br-lan  10.66.0.0/16 fd66::/64:   n1 0.11  gw 0.1  att 0.50   decoys in 10.66.7.0/24, fd66:7::/64
#   net edge:  br-edge 10.67.0.0/16 fd67::/64:   n2 0.12  gw 0.1  att 0.50   decoys in 10.67.7.0/24, fd67:7::/64
#              br-wan  203.0.113.0/24:           gw .1   out .9
#   s1 `cap`:  a mirror of both directions of n1's port on br-lan, without an address
#
# lab.sh up BASE | down | in HOST CMD… | at NAMESPACE CMD…
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

leg() { # host interface bridge [v4] [v6]
  local sw; sw=$(ns sw)
  ip link add "v-$1-$2" netns "$sw" type veth peer name "$2" netns "$(ns "$1")"
  if [ "$3" != - ]; then ip -n "$sw" link set "v-$1-$2" master "$3"; fi
  ip -n "$sw" link set "v-$1-$2" up
  [ -z "${4:-}" ] || ip -n "$(ns "$1")" addr add "$4" dev "$2"
  [ -z "${5:-}" ] || ip -n "$(ns "$1")" -6 addr add "$5" dev "$2" nodad
  ip -n "$(ns "$1")" link set "$2" up
}

mirror() { # port to
  local sw way; sw=$(ns sw)
  tc -n "$sw" qdisc add dev "$1" clsact
  for way in ingress egress; do
    tc -n "$sw" filter add dev "$1" $way protocol all u32 match u32 0 0 action mirred egress mirror dev "$2"
  done
}

network() {
  local name bridge last
  ip netns add "$(ns sw)"
  for bridge in br-mgmt br-lan br-edge br-wan; do
    ip -n "$(ns sw)" link add $bridge type bridge forward_delay 0 mcast_snooping 0
    ip -n "$(ns sw)" link set $bridge up
  done
  for name in $hosts $bare; do
    ip netns add "$(ns "$name")"
    ip -n "$(ns "$name")" link set lo up
  done
  for last in op:2 c1:10 n1:11 n2:12 s1:13 gw:14; do
    leg ${last%:*} mgmt br-mgmt 10.99.0.${last#*:}/24 fd99::${last#*:}/64
  done
  leg n1 dcy br-lan 10.66.0.11/16 fd66::11/64
  leg n2 dcy br-edge 10.67.0.12/16 fd67::12/64
  leg gw lan br-lan 10.66.0.1/16 fd66::1/64
  leg gw edge br-edge 10.67.0.1/16 fd67::1/64
  leg gw wan br-wan 203.0.113.1/24 2001:db8:ffff::1/64
  leg att lan br-lan 10.66.0.50/16 fd66::50/64
  leg att edge br-edge 10.67.0.50/16 fd67::50/64
  leg out wan br-wan 203.0.113.9/24 2001:db8:ffff::9/64
  leg s1 cap -
  mirror v-n1-dcy v-s1-cap
  # A node needs a way out for "blocked" to mean anything.
  ip -n "$(ns n1)" route add default via 10.66.0.1
  ip -n "$(ns n1)" -6 route add default via fd66::1
  ip -n "$(ns n2)" route add default via 10.67.0.1
  ip -n "$(ns n2)" -6 route add default via fd67::1
  ip -n "$(ns att)" route add default via 10.66.0.1
  ip -n "$(ns att)" -6 route add default via fd66::1
  ip -n "$(ns out)" route add default via 203.0.113.1
  ip -n "$(ns out)" -6 route add default via 2001:db8:ffff::1
  ip netns exec "$(ns gw)" sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  # The decoys' IPv6 prefixes are routed to their nodes.
  ip -n "$(ns gw)" -6 route add fd66:7::/64 via fd66::11
  ip -n "$(ns gw)" -6 route add fd67:7::/64 via fd67::12
  ip -n "$(ns att)" -6 route add fd67:7::/64 via fd67::12
}

# Hosts with a disk of their own, small enough to be filled.
disk_of() { case $1 in n1) echo 512m ;; c1) echo 768m ;; esac; }

host() { # name base
  local dir=$work/$1 size
  mkdir -p "$dir"
  size=$(disk_of "$1")
  [ -z "$size" ] || mount -t tmpfs -o "size=$size" none "$dir"
  mkdir -p "$dir"/{up,work,m}
  mount -t overlay overlay -o "lowerdir=$2,upperdir=$dir/up,workdir=$dir/work" "$dir/m"
  install -d -m700 "$dir/m/root/.ssh"
  install -m600 "$work/id.pub" "$dir/m/root/.ssh/authorized_keys"
  echo "$1" >"$dir/m/etc/hostname"
  printf '127.0.0.1 localhost %s\n::1 localhost\n' "$1" >"$dir/m/etc/hosts"
  : >"$dir/m/etc/machine-id"
  rm -f "$dir"/m/etc/ssh/ssh_host_*
  ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$dir/m/etc/ssh/ssh_host_ed25519_key"
  echo "$1 $(cut -d' ' -f1,2 "$dir/m/etc/ssh/ssh_host_ed25519_key.pub")" >>"$work/known_hosts"
}

boot() { # name
  # A cgroup of its own first: without, two containers meet at the root.
  mkdir -p "$cgroup/$(ns "$1")"
  (
    echo "$BASHPID" >"$cgroup/$(ns "$1")/cgroup.procs"
    export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_NSPAWN_LOCK=0
    exec setsid systemd-nspawn --quiet --boot --register=no --keep-unit --machine="$1" --directory="$work/$1/m" \
      --network-namespace-path="/run/netns/$(ns "$1")" --capability=CAP_NET_ADMIN,CAP_NET_RAW --console=pipe \
      --link-journal=no --resolv-conf=off --timezone=off --notify-ready=yes </dev/null >"$work/$1.log" 2>&1
  ) &
  echo $! >"$work/$1.pid"
}

leader() { pgrep -P "$(cat "$work/$1.pid")" | head -1; }
inside() { local name=$1; shift; nsenter -t "$(leader "$name")" -m -u -i -n -p -C -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"; }
at() { local name=$1; shift; ip netns exec "$(ns "$name")" "$@"; }

booted() { case $(inside "$1" systemctl is-system-running 2>/dev/null) in running) ;; *) return 1 ;; esac; }

up() {
  local name
  mkdir -p "$work"
  [ -f "$work/id" ] || ssh-keygen -q -t ed25519 -N '' -C lab -f "$work/id"
  network
  for name in $hosts; do host "$name" "$1"; boot "$name"; done
  for name in $hosts; do until_true 60 booted "$name"; done
}

# Ends one host, as pulling its plug after a polite moment.
halt() {
  local pid; pid=$(cat "$work/$1.pid" 2>/dev/null) || return 0
  kill -TERM "$pid" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  rm -f "$work/$1.pid"
}

down() {
  local name
  for name in $hosts; do halt "$name" & done
  wait
  for name in $hosts; do
    umount "$work/$name/m" 2>/dev/null || umount -l "$work/$name/m" 2>/dev/null || true
    [ -z "$(disk_of "$name")" ] || umount "$work/$name" 2>/dev/null || umount -l "$work/$name" 2>/dev/null || true
    find "$cgroup/$(ns "$name")" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    rm -rf "${work:?}/$name"
  done
  umount "$work/chroot/m/proc" "$work/chroot/m" 2>/dev/null || true
  rm -rf "/tmp/$(ns cp)"
  for name in $hosts $bare sw; do ip netns del "$(ns "$name")" 2>/dev/null || true; done
}

# Fails and names what a run left behind.
leftovers() {
  local left
  left=$(ip netns list | grep "ghd$id-"; grep " $work/" /proc/self/mounts; ls -d "$cgroup/ghd$id-"* "/tmp/$(ns cp)" 2>/dev/null; pgrep -f "directory=$work/" || true)
  [ -z "$left" ] || { echo "left behind: $left"; return 1; }
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  case "${1:-}" in
    up) up "$2" ;;
    down) down ;;
    in) shift; inside "$@" ;;
    at) shift; at "$@" ;;
    *) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
fi
