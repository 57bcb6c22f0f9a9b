#!/bin/sh
# Creates a virtual environment in the folder $1 with the first Python that is new enough.
#
# PYTHON selects another one. A Python without ensurepip (Debian's without python3-venv) works too: its own pip
# installs pip into the environment.
set -eu

venv=$1
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

for python in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$python" -c "$new_enough" 2>/dev/null; then
        echo "Creating $venv with $("$python" --version)."
        if "$python" -c 'import ensurepip' 2>/dev/null; then
            exec "$python" -m venv "$venv"
        fi
        "$python" -m venv --without-pip "$venv"
        exec "$python" -m pip --python "$venv/bin/python" install --quiet pip
    fi
done

echo "makima-tts needs Python 3.11 or newer; found $(python3 --version 2>&1 || true)." >&2
echo "Install it, or set PYTHON: make PYTHON=/path/to/python3.12 run" >&2
exit 1
