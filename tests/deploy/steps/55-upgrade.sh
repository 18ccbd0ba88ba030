# Another version and back: controller first, nodes one after the other; what was recorded is there before, after, and
# once more after that. The programs are the same, the packages' version is not: schemas have not changed yet.
# shellcheck shell=bash

next=$work/next
repacked() {
  local deb name
  mkdir -p "$next" "$work/repack"
  cp -r "$packages/deps" "$next/"
  for deb in "$packages"/*.deb; do
    name=$(dpkg-deb -f "$deb" Package)_$(dpkg-deb -f "$deb" Version).1_amd64
    dpkg-deb -R "$deb" "$work/repack/$name"
    sed -i 's/^Version: .*/&.1/' "$work/repack/$name/DEBIAN/control"
    dpkg-deb -Znone --root-owner-group -b "$work/repack/$name" "$next/$name.deb" >/dev/null
  done
  rm -rf "$work/repack"
  (cd "$next" && { grep ' deps/' "$packages/MANIFEST"; sha256sum ./*.deb | sed 's#\./##'; } >MANIFEST)
}
version() { inside "$1" dpkg-query -W -f '${Version}' "$2"; }
all_at() { # end of the versions
  local pair
  for pair in "c1 glasshive-controller" "s1 glasshive-sensor" "n1 glasshive-decoys" "n2 glasshive-decoys"; do
    # shellcheck disable=SC2086
    case $(version $pair) in *"$1") ;; *) echo "$pair: $(version $pair)"; return 1 ;; esac
  done
}
visits() { sessions --since 1h --limit 10000 | grep -c '"session"'; }
moved() { # label, end of the versions, flags
  local label=$1 end=$2 before after; shift 2
  before=$(visits)
  play "$label" upgrade "$@" || return 1
  after=$(visits)
  all_at "$end" || return 1
  [ "$before" -le "$after" ] || { echo "$before sessions before, $after after"; return 1; }
  banner 10.66.7.10 22 && until_true 20 all_linked
}

check "a next version is packed" repacked
check "upgrade: controller, sensor, decoys; all back, nothing lost" moved upgrade 1.1 -e "glasshive_bundle=$next"
check "rollback: the same way" moved rollback -1 -e "glasshive_bundle=$packages" -e artifact_allow_downgrade=true
