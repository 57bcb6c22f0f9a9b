#!/bin/sh
# Installs makima-tts, with the extras $2 (comma-separated), into the virtual environment $1.
# Runs in the source tree, without root, with only the files that the Dockerfile copies.
set -eu

prefix=$1
extras=$2

"$(dirname "$0")/make-venv.sh" "$prefix"
"$prefix/bin/python" -m pip --disable-pip-version-check install --quiet \
    --constraint requirements/constraints.txt ".[$extras]"
# The build fails here if the installed program does not start.
"$prefix/bin/makima-tts" --version
