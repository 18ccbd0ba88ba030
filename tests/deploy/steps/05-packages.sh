# The packages themselves, in a root file system that is not booted: install, upgrade, remove, purge.
# shellcheck shell=bash

jail=$work/chroot
in_root() { chroot "$jail/m" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"; }
root_up() {
  mkdir -p "$jail"/{up,work,m}
  mount -t overlay overlay -o "lowerdir=$base,upperdir=$jail/up,workdir=$jail/work" "$jail/m"
  mount --bind /proc "$jail/m/proc"
  mkdir -p "$jail/m/bundle"
  cp -r "$packages"/*.deb "$packages"/deps "$jail/m/bundle/"
}
root_down() { umount "$jail/m/proc" "$jail/m" && rm -rf "$jail"; }
# in_void FUNCTION: with no network at all; whoever wanted one would fail.
in_void() { export jail; export -f in_root "$1"; unshare -n bash -c "$1"; }
installed() {
  in_root sh -c 'while read -r name; do dpkg -i /bundle/deps/${name}_*.deb; done </bundle/deps/ORDER && dpkg -i /bundle/*.deb' || return 1
  in_root id glasshive-decoys && in_root id glasshive-sensor && in_root id glasshive
}
accepted() {
  in_root runuser -u glasshive-decoys -- glasshive-decoys check && in_root glasshive-sensor check && in_root runuser -u glasshive -- glasshive check
}
documented() {
  local file
  for file in decoys:glasshive-decoys sensor:glasshive-sensor controller:glasshive; do
    dpkg-deb -c "$packages/glasshive-${file%:*}"_*.deb | found "/man1/${file#*:}.1.gz$" || { echo "no page of ${file#*:}"; return 1; }
  done
  for file in glasshive glasshive-decoys glasshive-sensor; do in_root bash -n "/usr/share/bash-completion/completions/$file" || return 1; done
  in_root sh -c 'for unit in decoys sensor controller; do systemd-analyze verify --man=no /usr/lib/systemd/system/glasshive-$unit.service || exit 1; done'
}
# The same packages with a higher version; what the administrator wrote stays.
upgraded() {
  local deb name
  mkdir -p "$jail/m/bundle/next" "$work/repack"
  for deb in "$packages"/*.deb; do
    name=$(basename "$deb" .deb)
    dpkg-deb -R "$deb" "$work/repack/$name"
    sed -i 's/^Version: .*/&.1/' "$work/repack/$name/DEBIAN/control"
    echo "# of the next version" >>"$(find "$work/repack/$name/etc/glasshive" -name '*.toml' | head -1)"
    dpkg-deb -Znone --root-owner-group -b "$work/repack/$name" "$jail/m/bundle/next/$name.deb" >/dev/null
  done
  rm -rf "$work/repack"
  echo '# of the administrator' >>"$jail/m/etc/glasshive/controller.toml"
  in_root sh -c 'dpkg --force-confold -i /bundle/next/*.deb' || return 1
  grep -q 'of the administrator' "$jail/m/etc/glasshive/controller.toml" && ! grep -q 'of the next' "$jail/m/etc/glasshive/controller.toml"
}
removed() {
  touch "$jail/m/var/lib/glasshive/decoys/record"
  in_root dpkg -r glasshive-decoys glasshive-sensor glasshive-controller || return 1
  test ! -e "$jail/m/usr/bin/glasshive" && test -e "$jail/m/etc/glasshive/decoys.toml" && test -e "$jail/m/var/lib/glasshive/decoys/record"
}
purged() {
  in_root dpkg -P glasshive-decoys glasshive-sensor glasshive-controller || return 1
  local left; left=$(find "$jail/m"/{etc,usr,var/lib,var/log,run} -name '*glasshive*' -not -path '*/doc/*')
  [ -z "$left" ] || { echo "left: $left"; return 1; }
}

root_up
check "packages install without network" in_void installed
check "  … their configurations are accepted as shipped" accepted
check "  … man pages, completions, units are whole" documented
check "  … upgrade keeps what the administrator wrote" upgraded
check "  … remove keeps configuration and records" removed
check "  … purge leaves nothing" purged
root_down
