#!/bin/sh
# Installs a C compiler, which Triton wants once for every kernel that it launches, and int8 on a CPU once.
# Needs root, on Debian.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends gcc libc6-dev
gcc --version
