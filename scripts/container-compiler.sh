#!/bin/sh
# Installs a C compiler: Triton uses it once per kernel, int8 on a CPU uses it once.
# Needs root, on Debian.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends gcc libc6-dev
gcc --version
