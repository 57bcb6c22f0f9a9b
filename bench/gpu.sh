#!/usr/bin/env bash
# All that a GPU is needed for, in one command of under eight minutes; see bench/gpu.py.
#
#   bench/gpu.sh --wheels [3.12]   where PyPI can be reached: fetch the wheels that the GPU's machine lacks
#   bench/gpu.sh                   there: measure
#   bench/gpu.sh --dry             anywhere: run all of it, small, on a CPU
#
# Of the machine it needs a Python with torch, numpy, safetensors and triton (PYTHON names another than
# python3); the rest is in .wheels, if that was fetched for this Python. Results are in $OUT, else .bench-gpu.
set -euo pipefail
cd "$(dirname "$0")/.."

wheels=.wheels
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi

if [ "${1:-}" = --wheels ]; then
    shift
    exec "$PYTHON" -m bench.gpu_wheels "$wheels" "$@"
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

# Wheels $1 into a folder of their own, which nothing but this run sees.
unpack() {
    "$PYTHON" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile \
        --no-cache-dir --target "$site/$1" "$wheels/$1"/*.whl
}

options=()
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$(cat "$wheels/python" 2>/dev/null || true)" = "$version" ]; then
    # The peer wants other releases of some packages: it has a place of its own, and the machine's packages.
    unpack peer &
    unpack ours
    export PYTHONPATH="$site/ours${PYTHONPATH:+:$PYTHONPATH}"
    if wait $!; then options+=(--peer-path "$site/peer"); fi
fi

"$PYTHON" -m bench.gpu --out "${OUT:-.bench-gpu}" "${options[@]}" "$@"
