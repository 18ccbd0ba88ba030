# README.md word for word, on fresh hosts of its own, while the other steps run; 58-readme.sh says what came of it.
# shellcheck shell=bash

aside readme env DEPLOY_RUN="$id" DEPLOY_WORK="$work" "$here/readme.sh"
