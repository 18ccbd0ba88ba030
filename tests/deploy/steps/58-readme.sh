# What came of README.md on fresh hosts; and the lints, which say it themselves.
# shellcheck shell=bash

came_of lint
came_of readme || true
read_through() { tail -n 30 "$work/readme.log"; came_of readme; }
check "README.md: every command and file as written, on fresh hosts" read_through
