#!/usr/bin/env bash
# README.md as a new user meets it: fresh hosts with the addresses of its examples, its files, its commands.
#   ctl 10.0.0.1, node 10.0.0.11, sensor 10.0.0.12 and a receiver of notes 10.0.0.9 on eth0; the segment on eth1:
#   node 10.66.0.11, visitor 10.66.0.50, a mirror of the node's port at the sensor.
source "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
id=${id}r work=$work/readme
hosts="ctl node sensor" bare="vis rec"
disk_of() { :; }
network() {
  local name bridge
  ip netns add "$(ns sw)"
  for bridge in br-mgmt br-dcy; do
    ip -n "$(ns sw)" link add $bridge type bridge forward_delay 0 mcast_snooping 0
    ip -n "$(ns sw)" link set $bridge up
  done
  for name in $hosts $bare; do
    ip netns add "$(ns "$name")"
    ip -n "$(ns "$name")" link set lo up
  done
  leg ctl eth0 br-mgmt 10.0.0.1/24
  leg node eth0 br-mgmt 10.0.0.11/24
  leg sensor eth0 br-mgmt 10.0.0.12/24
  leg rec eth0 br-mgmt 10.0.0.9/24
  leg node eth1 br-dcy 10.66.0.11/16 fd00:66::11/64
  leg vis eth1 br-dcy 10.66.0.50/16 fd00:66::50/64
  leg sensor eth1 -
  mirror v-node-eth1 v-sensor-eth1
  ip -n "$(ns vis)" -6 route add fd00:66:7::/64 via fd00:66::11
}
# on HOST SCRIPT
on() {
  case $1 in
    vis) at vis bash -c "$2" ;;
    *) inside "$1" bash -c "$2" ;;
  esac
}

case ${1:-run} in
  on) shift; on "$@"; exit ;;
  down) down; exit ;;
esac
receiver=
trap '[ -n "${DEPLOY_KEEP:-}" ] || { [ -z "$receiver" ] || kill "$receiver"; down; leftovers; }' EXIT
trap 'exit 130' INT TERM
mkdir -p "$work"
up "$("$here/rootfs.sh")"
for name in $hosts; do
  mkdir -p "$work/$name/m/bundle"
  cp -r "$packages"/*.deb "$packages/deps" "$work/$name/m/bundle/"
done
at rec python3 -c '
import asyncio
async def take(reader, writer):
    await reader.read(1 << 16)
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    writer.close()
async def main():
    for port in (8090, 8514):
        await asyncio.start_server(take, "10.0.0.9", port)
    await asyncio.Event().wait()
asyncio.run(main())' &
receiver=$!
python3 "$here/readme.py" "$root/README.md" env DEPLOY_RUN="${id%r}" DEPLOY_WORK="${work%/readme}" "$0" on
