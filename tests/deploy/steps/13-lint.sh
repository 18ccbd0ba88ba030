# The linters of packages and collection. They need nothing of the rest and go on while the steps that mostly wait do;
# 58-readme.sh waits for them.
# shellcheck shell=bash

lint() { ! lintian --tag-display-limit 0 "$packages"/*.deb 2>/dev/null | grep '^E:'; }
ansible_lint() {
  mkdir -p "$work/lint/ansible_collections/glasshive"
  cp -r "$root/ansible" "$work/lint/ansible_collections/glasshive/honeynet"
  (
    cd "$work/lint/ansible_collections/glasshive/honeynet"
    export ANSIBLE_COLLECTIONS_PATH=$work/lint ANSIBLE_HOME=$work/ansible NO_COLOR=1 PATH=$cache/venv/bin:$PATH
    yamllint --strict . && ansible-lint --offline --profile production
  )
}

{
  check "lintian: no error" lint &
  check "yamllint, ansible-lint (production)" ansible_lint
  wait
  echo 0 >"$work/lint.status"
} &
