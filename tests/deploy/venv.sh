#!/usr/bin/env bash
# Makes the Python environment with Ansible and its linters, once per list of versions.
source "$(dirname "$0")/lib.sh"

wanted="ansible-core==2.19.* ansible-lint==26.* yamllint==1.*"
# One that was moved, or whose Python is gone, is made again.
[ "$(cat "$cache/venv/wanted" 2>/dev/null)" != "$wanted" ] || ! "$cache/venv/bin/ansible" --version >/dev/null 2>&1 || exit 0
rm -rf "$cache/venv"
mkdir -p "$cache"
python3 -m venv "$cache/venv"
# shellcheck disable=SC2086
"$cache/venv/bin/pip" install -q --disable-pip-version-check $wanted
echo "$wanted" >"$cache/venv/wanted"
