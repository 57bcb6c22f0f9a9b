#!/bin/sh
# Installs makima-tts, with the extras $2 (comma-separated), into the virtual environment $1.
# Run in the source tree; needs no root, and nothing but what the Dockerfile copies.
set -eu

prefix=$1
extras=$2

"$(dirname "$0")/make-venv.sh" "$prefix"
"$prefix/bin/python" -m pip --disable-pip-version-check install --quiet \
    --constraint requirements/constraints.txt ".[$extras]"
# What was installed has to start before an image is made of it.
"$prefix/bin/makima-tts" --version
