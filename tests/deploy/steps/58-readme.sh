# What came of README.md on fresh hosts; and the lints, which say it themselves.
# shellcheck shell=bash

wait "$lint_pid" "$ansible_lint_pid"
readme_status=0
wait "$readme_pid" || readme_status=$?
read_through() { tail -n 30 "$work/readme.log"; [ "$readme_status" = 0 ]; }
check "README.md: every command and file as written, on fresh hosts" read_through
