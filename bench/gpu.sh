#!/usr/bin/env bash
# All measurements that need a GPU, in one command of under eight minutes.
#
#   bench/gpu.sh --wheels [3.12]   with access to PyPI: fetch the wheels that the GPU's machine lacks
#   bench/gpu.sh                   there: measure
#   bench/gpu.sh --dry             anywhere: run all of it, small, on a CPU
#
# The machine needs a Python with torch, numpy, safetensors and triton (PYTHON, else python3); the rest is in
# .wheels, if that was fetched for this Python. Each part is a pytest process with a limit (bench/gpu/), and one
# that hangs is killed with all its children. $OUT, else .bench-gpu, gets gpu.json, table.md, profile.txt and
# log.txt; the table goes to stdout. The exit code is 1 if a part failed.
set -euo pipefail

# Seconds until a part is killed. The first four run together.
declare -A limits=([kernels]=115 [tests]=115 [checkpoint]=115 [precision]=115
    [steps]=40 [turns]=25 [single]=40 [profile]=35 [peer]=40)
whole=455
dry_limit=90

# Wheels $1 into a folder of their own, which only this run uses.
unpack() {
    "$PYTHON" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-compile \
        --no-cache-dir --target "$work/$1" "$wheels/$1"/*.whl
}

# Pytest with a limit: part NAME SECONDS ARGUMENTS… Its output goes to a log file.
part() {
    local name=$1 limit=$2
    shift 2
    # A machine's own plugins may be for another release of pytest; other versions than the pinned ones warn.
    { PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 timeout --signal=KILL "$limit" "$PYTHON" -m pytest \
        -p pytest_asyncio.plugin -p pytest_timeout -p _hypothesis_pytestplugin -p xdist.plugin -p bench.gpu.plugin \
        -o addopts= -W default -p no:cacheprovider -v -ra --part "$name" --folder "$work" --out "$out" \
        --seconds "$limit" "${dry[@]}" "$@" >"$work/$name.log" 2>&1 </dev/null; } 2>/dev/null || true
    echo "$name: over after $SECONDS s" >&2
}

# A measurement of bench/gpu. A little before it is killed, pytest ends it and says where it was.
measure() {
    local name=$1 file=$2 limit=$3
    part "$name" "$limit" --timeout "$((limit - 5))" "bench/gpu/$file.py::test_$name"
}

limit_of() {
    local left=$((whole - SECONDS)) limit
    limit=${limits[$1]:-$left}
    if [ "${#dry[@]}" -gt 0 ]; then limit=$dry_limit; elif [ "$limit" -gt "$left" ]; then limit=$left; fi
    echo "$((limit > 10 ? limit : 10))"
}

# At most $1 of the background jobs go on.
wait_for_all_but() {
    while [ "$(jobs -rp | wc -l)" -gt "$1" ]; do wait -n || true; done
}

main() {
    local kernels tests processes at_once=1
    mapfile -t kernels < <(ls tests/kernels/test_*.py | grep -v compiled) # those compile for other cards
    if [ "${#dry[@]}" -gt 0 ]; then kernels=(tests/kernels/test_sampler.py) at_once=2; fi
    # Other files need not be importable here.
    mapfile -t tests < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
    processes=$(($(nproc) / 2))
    processes=$((processes < 2 ? 0 : processes > 10 ? 10 : processes))

    # Kernels are compiled for every size that a test brings, a second or more each: hence the processes.
    part kernels "$(limit_of kernels)" --suite "kernel tests" -n "$processes" "${kernels[@]}" &
    part tests "$(limit_of tests)" --suite "GPU tests" -n "$processes" -m gpu "${tests[@]}" &
    # It starts a first server, which compiles the kernels: the later parts find them compiled.
    measure checkpoint test_server "$(limit_of checkpoint)" &
    # It computes beside others, and leaves them their cores.
    OMP_NUM_THREADS=4 measure precision test_device "$(limit_of precision)" &
    wait_for_all_but 0
    for name in steps:device turns:server single:server profile:device peer:server load:server; do
        wait_for_all_but "$((at_once - 1))"
        measure "${name%:*}" "test_${name#*:}" "$(limit_of "${name%:*}")" &
    done
    wait_for_all_but 0
    tail -n +1 "$work"/*.log >"$out/log.txt"
    "$PYTHON" -m bench.gpu.report "$work" "$out" "${dry[@]}"
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
wheels=.wheels
dry=()
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; fi
fi
out=${OUT:-.bench-gpu}
if [ "${BASH_SOURCE[0]}" != "$0" ]; then return; fi # sourced by a test of the functions

case "${1:-}" in
--wheels)
    shift
    exec "$PYTHON" -m bench.gpu.wheels "$wheels" "$@"
    ;;
--dry) dry=(--dry) ;;
"") ;;
*)
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    if [ "$1" = --help ]; then exit 0; else exit 2; fi
    ;;
esac

mkdir -p "$out"
work=$(mktemp -d)
trap 'kill $(jobs -rp) 2>/dev/null || true; rm -rf "$work"' EXIT
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if [ "$(cat "$wheels/python" 2>/dev/null || true)" = "$version" ]; then
    # The peer needs other releases of some packages: it has a folder of its own, and the machine's packages.
    unpack peer &
    unpack ours
    export PYTHONPATH="$work/ours${PYTHONPATH:+:$PYTHONPATH}"
    if wait $!; then export MAKIMA_BENCH_PEER_PATH="$work/peer"; fi
fi
main
