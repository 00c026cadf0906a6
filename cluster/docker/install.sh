#!/bin/bash
# Installs a lock file and this package into /opt/venv, each file by the hash that the lock names: install.sh cpu|gpu
# For `cpu`, TORCH_CPU is a folder with the wheel of torch for CPUs, or a page that links to it.
set -euo pipefail

torch=()
if [ "$1" = cpu ]; then
	torch=(--find-links "${TORCH_CPU:?a folder with the wheel of torch for CPUs, or a page that links to it}")
fi

lock=cluster/docker/requirements-$1.lock
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT

part() { # part PATTERN: the packages of the lock whose lines match, with their hashes
	awk -v pattern="$1" '/^[^ #]/ { own = ($0 ~ pattern) } own' "$lock"
}
tools='^(setuptools|wheel|ninja)=='
part "$tools" >"$parts/tools"
part '^deepspeed==' >"$parts/deepspeed"
awk -v tools="$tools" '/^[^ #]/ { own = ($0 ~ tools || /^deepspeed==/) } !own' "$lock" >"$parts/others"

pip() { /opt/venv/bin/python -m pip --disable-pip-version-check "$@"; }
locked() { pip install --require-hashes --no-deps --no-build-isolation "$@"; }

# What is built is built with these, and not with what pip would find by itself, which no hash names.
locked --requirement "$parts/tools"
locked "${torch[@]}" --requirement "$parts/others"
# DeepSpeed has no wheels, and looks for torch when it is built. As in cluster/install.sh, its reduction in shared
# memory, which every CPU run uses, is built now.
DS_ACCELERATOR=cpu DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=1 DS_ENABLE_NINJA=1 \
	locked --no-binary deepspeed --requirement "$parts/deepspeed"
pip install --no-deps --no-build-isolation --no-index .
pip check
