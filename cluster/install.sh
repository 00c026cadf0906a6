#!/bin/sh
# Installs the project into .venv, as pinned by constraints.txt; called by `make`, safe to interrupt and to repeat.
#
#   sh cluster/install.sh           check the machine, then install or update .venv
#   sh cluster/install.sh --check   check the machine alone
#
# PYTHON names the interpreter, CXX the compiler. Only what POSIX has is used here: nothing else is there yet.
set -eu
cd "$(dirname "$0")/.."

VENV="$PWD/.venv"
STAMP="$VENV/.installed"        # written last: the digest of what was installed
UNFINISHED="$VENV/.unfinished"  # the installing process, while there is one: found later, .venv is made anew

LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT

say() { printf '%s\n' "$*" >&2; }

# --- what the machine must have; everything missing is named at once ---------------------------------------------

PROBE='
import os, sys, sysconfig
lacks = []
if sys.version_info[:2] != (3, 11):
    lacks.append("is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    lacks.append("has no venv")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    lacks.append("has no headers (Python.h)")
print(", ".join(lacks))
'

find_python() {  # sets python, or leaves it empty with the reason for each candidate in rejected
    python="" rejected=""
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        path=$(command -v "$candidate" 2>/dev/null) || { rejected="$rejected
      $candidate: not found"; continue; }
        lacks=$("$path" -c "$PROBE" 2>/dev/null) || lacks="does not run"
        if [ -z "$lacks" ]; then python=$path; return; fi
        rejected="$rejected
      $path: $lacks"
    done
}

find_compiler() {  # sets compiler, or leaves it empty
    compiler=""
    for candidate in ${CXX:-c++ g++ clang++}; do
        if command -v "$candidate" >/dev/null 2>&1; then compiler=$candidate; return; fi
    done
}

compiles() {  # the compiler, C++20, OpenMP and Python's headers together, as DeepSpeed's operations need them
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    printf '#include <Python.h>\n#include <vector>\n#include <omp.h>\n' |
        "$compiler" -x c++ -std=c++20 -fopenmp -fsyntax-only -I"$include" - 2>/dev/null
}

check_machine() {
    missing=""
    find_python
    find_compiler
    [ -n "$python" ] || missing="$missing
  Python 3.11 with venv and headers; tried:$rejected
      fix: apt-get install python3.11 python3.11-venv python3.11-dev, or pyenv install 3.11;
           or name one that has all three: make PYTHON=/path/to/python3.11"
    if [ -z "$compiler" ]; then missing="$missing
  a C++ compiler; tried: ${CXX:-c++ g++ clang++}
      fix: apt-get install g++ (dnf install gcc-c++), or name one: make CXX=/path/to/g++"
    elif [ -n "$python" ] && ! compiles; then missing="$missing
  a C++ compiler for C++20 with OpenMP: $compiler cannot compile <Python.h>, <vector> and <omp.h> together
      fix: apt-get install g++ (11 or newer), or name one: make CXX=/path/to/g++"
    fi
    for tool in make git; do
        command -v "$tool" >/dev/null 2>&1 || missing="$missing
  $tool
      fix: apt-get install $tool"
    done
    if [ -n "$missing" ]; then
        say "This machine lacks what the installation needs:$missing"
        exit 2
    fi
}

# --- the steps ---------------------------------------------------------------------------------------------------

step() {  # step "what" command...: one line and its seconds; the command's output is shown when it fails
    what=$1 began=$(date +%s)
    shift
    printf '  %-52s' "$what" >&2
    if "$@" >"$LOG" 2>&1; then
        say "$(($(date +%s) - began)) s"
    else
        say "failed after $(($(date +%s) - began)) s"
        say "$* said:"
        tail -n 40 "$LOG" >&2
        exit 1
    fi
}

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }
install() { pip install -q -c constraints.txt "$@"; }
pinned() { grep "^$1==" constraints.txt; }

fresh_venv() { rm -rf "$VENV" && mkdir "$VENV" && echo $$ >"$UNFINISHED" && "$python" -m venv "$VENV"; }
healthy() {  # it runs, and was made for this folder
    [ "$("$VENV/bin/python" -c 'import sys; print(sys.prefix, sys.version_info[:2])' 2>&1)" = "$VENV (3, 11)" ]
}
has_operations() {
    [ "$(uname)" != Linux ] || ls "$VENV"/lib/python3.11/site-packages/deepspeed/ops/comm/deepspeed_shm_comm_op*.so
}

install_deepspeed() {
    # Its shared-memory reduction is used by every CPU run, and would otherwise be compiled at the first one. A wheel
    # from pip's cache may have been built without it, so neither a wheel nor the cache is used.
    export DS_ACCELERATOR=cpu DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=1 DS_ENABLE_NINJA=1 CXX="$compiler" PATH="$VENV/bin:$PATH"
    install --no-deps --no-build-isolation \
        --no-cache-dir --no-binary deepspeed --force-reinstall "$(pinned deepspeed)"
    has_operations || { echo "DeepSpeed was installed without its shared-memory operation"; return 1; }
}

main() {
    digest=$(cat pyproject.toml constraints.txt cluster/install.sh | cksum)
    if [ -z "${1:-}" ] && [ -e "$STAMP" ] && [ "$(cat "$STAMP")" = "$digest" ] && healthy; then
        touch "$STAMP"
        return
    fi
    check_machine
    [ "${1:-}" != --check ] || { say "Python: $python, C++: $compiler: all there."; return; }

    holder=$(cat "$UNFINISHED" 2>/dev/null || true)
    if [ -n "$holder" ] && kill -0 "$holder" 2>/dev/null; then
        say "Process $holder is installing into .venv: wait for it, or end it, then try again"
        exit 2
    fi
    say "Installing into .venv with $python"
    if [ -e "$UNFINISHED" ] || ! healthy; then
        step "an empty environment" fresh_venv
    fi
    rm -f "$STAMP"
    echo $$ >"$UNFINISHED"
    step "$(pinned torch)" install "$(pinned torch)"
    step "build tools" install setuptools wheel ninja
    has_operations >/dev/null 2>&1 && pip freeze 2>/dev/null | grep -qx "$(pinned deepspeed)" ||
        step "$(pinned deepspeed), its operations compiled" install_deepspeed
    step "the package, what it needs, and its tools" install --no-build-isolation -e '.[dev]'
    step "everything fits together" pip check
    printf '%s\n' "$digest" >"$STAMP"
    rm -f "$UNFINISHED"
}

main "$@"
