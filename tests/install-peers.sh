#!/usr/bin/env bash
# Installs the peers `make bench BENCH=--peers` measures beside Glasshive: each in an environment of its
# own under run/bench-peers (or the directory given), at the version pinned here. Nothing is started.
set -euo pipefail

dir=${1:-run/bench-peers}
# Cowrie refuses root and is run as another user then, who must be able to read the interpreter too:
# the system's own, unless PYTHON says otherwise.
python=${PYTHON:-/usr/bin/python3}

# name==version; both stand on Twisted, which much of what they cost is.
peers="opencanary==0.9.10 cowrie==3.1.4"
twisted="twisted==26.4.0"

missing=0
for peer in $peers; do
  [ "$(cat "$dir/${peer%%==*}/installed" 2>/dev/null || true)" = "$peer" ] || missing=1
done
[ $missing = 0 ] && exit 0

if ! "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "missing: Python 3.11 or later with venv; on Debian run this once, then again: sudo apt-get install -y python3-venv" >&2
    exit 1
  fi
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null
fi
if [ "$(id -u)" -eq 0 ]; then
  command -v setpriv >/dev/null || { echo "missing: setpriv (util-linux)" >&2; exit 1; }
fi

mkdir -p "$dir"
for peer in $peers; do
  home=$dir/${peer%%==*}
  [ "$(cat "$home/installed" 2>/dev/null || true)" = "$peer" ] && continue
  echo "installing $peer into $home"
  rm -rf "$home"
  "$python" -m venv "$home"
  "$home/bin/pip" -q install --disable-pip-version-check "$peer" "$twisted"
  echo "$peer" >"$home/installed"
done
chmod -R a+rX "$dir"
