#!/usr/bin/env bash
# Builds the three Debian packages from this checkout, and the bundle hosts without internet install from:
# target/packages/{*.deb, deps/*.deb, MANIFEST}. MANIFEST names every file with its SHA-256, in an order in which
# they can be installed one after the other. GLASSHIVE_PROFILE=dev takes the test profile (default: release).
#
# GLASSHIVE_TEST_STAMP=VERSION+SCHEMA (such as 0.2.0+2), for tests of upgrades only: the same tree as another version with
# another schema, into target/next/packages. What was compiled before is taken over; only the programs are built anew.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${GLASSHIVE_PROFILE:-release}
folder=$profile; [ "$profile" != dev ] || folder=debug
cargo=${CARGO:-cargo}
cargo_deb=3.8.0
target=target
out=target/packages
# The packages' asset lists name this place.
stage=$out/stage
if [ -n "${GLASSHIVE_TEST_STAMP:-}" ]; then
  target=target/next
  out=$target/packages
  export CARGO_TARGET_DIR=$target
  # Links for what nobody writes again; cargo's notes are copied, and the programs' own files are left out.
  rm -rf "$target"
  mkdir -p "$target/$folder" "$out"
  cp -a "target/$folder/.fingerprint" "$target/$folder/"
  cp -al "target/$folder/build" "target/$folder/deps" "$target/$folder/"
  find "$target/$folder/deps" -maxdepth 1 -name 'glasshive*' ! -name 'glasshive_lab-*' -delete
  cp -al target/packages/deps "$out/"
fi

[ -x target/tools/bin/cargo-deb ] ||
  $cargo install cargo-deb --version $cargo_deb --locked --quiet --root target/tools

# The whole workspace: what `make build` or the tests built fits, with a choice of packages it would not. One test beside,
# the smallest: it chooses the features of libraries that the tests have, so that none is compiled once more.
beside=() speed=(); [ "$profile" != dev ] || { beside=(--test tshark); speed=(--fast); }
$cargo build --profile "$profile" --locked --workspace --bins "${beside[@]}"
rm -rf "$stage" "$out"/*.deb "$out/MANIFEST"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

# What the programs themselves can tell: manual pages and completions.
pages() { # PACKAGE PROGRAM ARGUMENT…
  local package=$1 program=$2 dir=$stage/$1; shift 2
  mkdir -p "$dir/man" "$dir/completions"
  "$target/$folder/$program" man "$@" "$dir/man" >/dev/null
  "$target/$folder/$program" completions bash >"$dir/completions/$program"
  "$target/$folder/$program" completions zsh >"$dir/completions/_$program"
  "$target/$folder/$program" completions fish >"$dir/completions/$program.fish"
}
pages glasshive-decoys glasshive-decoys
pages glasshive-sensor glasshive-sensor
pages glasshive-controller glasshive -o

{
  echo "Apache-2.0: on Debian systems the text is in /usr/share/common-licenses/Apache-2.0."
  echo
  echo "MIT:"
  tail -n +5 LICENSE-MIT
} >$stage/license
version=()
[ -z "${GLASSHIVE_TEST_STAMP:-}" ] || version=(--deb-version "${GLASSHIVE_TEST_STAMP%+*}-1")
for package in glasshive-decoys glasshive-sensor glasshive-controller; do
  target/tools/bin/cargo-deb -p $package --no-build --profile "$profile" --strip -q "${speed[@]}" "${version[@]}" -o "$out/"
done

# What a minimal Debian 12 lacks of what they need, in an order in which it can be installed; downloaded once.
closure() { apt-get -s -qq -o Dir::State::status=/dev/null --no-install-recommends install "$@" | awk '$1 == "Conf" { print $2 }'; }
if ! compgen -G "$out/deps/*.deb" >/dev/null; then
  mkdir -p "$out/deps"
  required=$(apt-cache dumpavail | awk 'BEGIN { RS = "" } /\nPriority: required\n/ { print $2 }' | sort -u)
  # shellcheck disable=SC2086
  closure $required | sort >"$out/deps/MINIMAL"
  for name in nftables libpcap0.8 ethtool; do
    closure $name | grep -vxFf "$out/deps/MINIMAL" | sed 's/:.*//' >"$out/deps/$name.list"
  done
  cat "$out"/deps/*.list | awk '!seen[$0]++' >"$out/deps/ORDER"
  (
    cd "$out/deps"
    xargs apt-get -qq download <ORDER
    # One file to carry for each.
    for name in *.list; do
      while read -r package; do ls "${package}"_*.deb; done <"$name" | xargs tar -cf "${name%.list}.tar"
    done
  )
fi
(
  cd $out
  while read -r name; do ls "deps/${name}"_*.deb; done <deps/ORDER
  ls ./*.deb
) | sed 's#^\./##' | (cd $out && xargs sha256sum) >$out/MANIFEST
rm -rf "$stage"
cat $out/MANIFEST
