#!/bin/sh
# Writes what images install, each package with the hashes of its files: requirements-cpu.lock, requirements-gpu.lock.
# Versions are those of constraints.txt. Needs `uv` (pip install uv); nothing but metadata is downloaded.
#
#   TORCH_CPU=FOLDER_OR_PAGE sh cluster/docker/lock.sh
#
# An image installs one of them, without build isolation since DeepSpeed is a source archive that asks for torch:
#
#   pip install --require-hashes --no-deps --no-build-isolation -r requirements-gpu.lock
#
# PyPI's torch is the one for CUDA. The CPU's has a version of its own, and is not there: TORCH_CPU is a folder with its
# wheel, or a page that links to it, here and where an image is built. No other file can be served from there in its
# place, since each has its hash.
set -eu
cd "$(dirname "$0")/../.."
: "${TORCH_CPU:?a folder with the wheel of torch for CPUs, or a page that links to it}"

lock() {  # lock FILE HEADING OPTION...
    file=$1 heading=$2
    shift 2
    printf 'setuptools\nwheel\nninja\n' | uv pip compile pyproject.toml - \
        --constraints constraints.txt --generate-hashes --upgrade \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --no-annotate --no-header \
        --quiet --output-file "$file.new" "$@"
    { printf '%s\n' '# Made by cluster/docker/lock.sh: not to be edited by hand.' "$heading"; cat "$file.new"; } >"$file"
    rm "$file.new"
}

EXTRAS="--extra clean --extra lora --extra s3"
pinned=$(sed -n 's/^torch==//p' constraints.txt)
cpu=$(mktemp)
trap 'rm -f "$cpu"' EXIT
printf 'torch==%s+cpu\n' "$pinned" >"$cpu"

# shellcheck disable=SC2086  # several words
lock cluster/docker/requirements-gpu.lock "# With PyPI's torch, for CUDA." $EXTRAS --extra energy
# shellcheck disable=SC2086
lock cluster/docker/requirements-cpu.lock "# With torch for CPUs: TORCH_CPU says where it is." $EXTRAS --overrides "$cpu" --find-links "$TORCH_CPU"
