#!/usr/bin/env bash
# Makes the root file system every booted host starts from, once per list of packages; prints its path.
# It lacks what the bundle brings (nftables, libpcap …), so that an offline install is a real one.
source "$(dirname "$0")/lib.sh"

include=systemd,systemd-sysv,dbus,openssh-server,python3-minimal,python3-apt,iproute2,ca-certificates,sudo,procps,iputils-ping
key=$(echo "$include bookworm 2" | sha256sum | cut -c1-12)
base=$cache/rootfs-$key
if [ ! -e "$base.done" ]; then
  # The host's own package sources: no address of an archive stands in the repository.
  sources=$(compgen -G "/etc/apt/sources.list.d/debian.sources" || compgen -G "/etc/apt/sources.list" || true)
  [ -n "$sources" ] || { echo "no package sources of this host were found under /etc/apt" >&2; exit 1; }
  rm -rf "$base"
  mkdir -p "$cache"
  mmdebstrap --quiet --mode=root --variant=minbase --include=$include bookworm "$base" "$sources" >&2
  # Hosts have no way to an archive, and must not want one.
  find "$base/etc/apt" \( -name '*.list' -o -name '*.sources' \) -delete
  touch "$base.done"
fi
echo "$base"
