#!/usr/bin/env bash
# Installs what `make demo` (argument demo), `make test` (test), `make bench` (bench) or `make packages` and
# `make deploy-test` (deploy) need from Debian's packages.
# As an ordinary user it installs nothing and prints the one command that would.
set -euo pipefail

if ! command -v cargo >/dev/null; then
  echo "Rust is missing: install rustup from your usual source, then run: rustup toolchain install 1.95.0 (Debian 12's own rustc 1.63 is too old)" >&2
  exit 1
fi

# program:package
demo="cc:gcc ssh:openssh-client sshpass:sshpass curl:curl lftp:lftp dig:bind9-dnsutils script:bsdutils asciinema:asciinema ip:iproute2 nft:nftables"
# Only root captures packets, so only root needs what the demonstration does with them.
[ "$(id -u)" -ne 0 ] || demo="$demo nmap:nmap sshd:openssh-server tcpdump:tcpdump tshark:tshark"
tests="$demo python3:python3 rsyslogd:rsyslog setpriv:util-linux ping:iputils-ping mkfs.ext4:e2fsprogs nmap:nmap sshd:openssh-server nginx:nginx-light telnet:inetutils-telnet expect:expect tcpdump:tcpdump tcpreplay:tcpreplay tshark:tshark"
bench=$demo
[ "$(id -u)" -ne 0 ] || bench="$bench dumpcap:wireshark-common netsniff-ng:netsniff-ng"
# cargo-deb asks dpkg-shlibdeps; the deployment's hosts are booted from a root file system of their own.
deploy="cc:gcc dpkg-shlibdeps:dpkg-dev lintian:lintian"
[ "$(id -u)" -ne 0 ] || deploy="$deploy mmdebstrap:mmdebstrap systemd-nspawn:systemd-container python3:python3-venv ip:iproute2 nft:nftables
  ssh:openssh-client sshpass:sshpass curl:curl dig:bind9-dnsutils arping:arping nmap:nmap tshark:tshark"
case "${1:-demo}" in
  test) wanted=$tests ;;
  bench) wanted=$bench ;;
  deploy) wanted=$deploy ;;
  *) wanted=$demo ;;
esac

missing=()
for pair in $wanted; do
  program=${pair%%:*}
  [ -n "$(PATH=$PATH:/usr/sbin:/sbin command -v "$program" || true)" ] || missing+=("${pair##*:}")
done
[ -e /usr/include/pcap/pcap.h ] || missing+=(libpcap-dev)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "missing: run this once, then again: sudo apt-get install -y ${missing[*]}" >&2
  exit 1
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# A package index from long ago, or none, cannot name what is to be had now.
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
