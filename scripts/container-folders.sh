#!/bin/sh
# Creates the folders that a container writes to, below $1. They belong to group 0 and are group-writable, so the
# image runs under any user id (with group 0, as in Kubernetes and OpenShift) without a chown.
set -eu

for folder in cache models voices; do
    mkdir -p "$1/$folder"
    chmod 0775 "$1/$folder"
done
