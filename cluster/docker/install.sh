#!/bin/bash
# Installs a lock file and this package into /opt/venv, each file by the hash that the lock names: install.sh cpu|gpu
set -euo pipefail

lock=cluster/docker/requirements-$1.lock
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

# DeepSpeed has no wheels, and looks for torch when it is built: after all others, without a room of its own.
awk '/^[^ #]/ { own = /^deepspeed==/ } own' "$lock" >"$parts/deepspeed"
awk '/^[^ #]/ { own = /^deepspeed==/ } !own' "$lock" >"$parts/others"

pip() { /opt/venv/bin/python -m pip --disable-pip-version-check "$@"; }

pip install --require-hashes --no-deps --requirement "$parts/others"
# As in cluster/install.sh: the reduction in shared memory, which every CPU run uses, is built now.
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=1 DS_ENABLE_NINJA=1 \
	pip install --require-hashes --no-deps --no-build-isolation --no-binary deepspeed --requirement "$parts/deepspeed"
pip install --no-deps --no-build-isolation --no-index .
pip check
