# `make help` lists what there is. Every target installs into .venv first, if needed.

SHELL := /bin/sh
.SHELLFLAGS := -eu -c
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON ?=
export PYTHON
BIN := $(VENV)/bin
RUN := $(BIN)/python -m

# Code and tests know shared data by this variable alone; what needs it skips where it is unset.
ifneq ($(wildcard ../shared/data/.),)
export LLMCORE_DATA ?= $(abspath ../shared/data)
endif

# What `check` passed for: every file git knows or would add, and the data the tests saw.
CHECKED := $(VENV)/.checked
TREE = { git ls-files -co --exclude-standard -z | LC_ALL=C sort -z | xargs -0 sha256sum 2>&1; echo "$${LLMCORE_DATA:-}"; } | sha256sum

# Unit tests, side by side: they share nothing. The others share one Ray, whose workers are many.
UNIT := pytest tests/unit -n logical --maxprocesses 4 --dist loadfile

# step,what,command: one line with its seconds; what the command said is shown when it fails.
step = began=$$(date +%s); printf '  %-24s' "$(1)"; said=$$($(2) 2>&1) && echo "ok, $$(($$(date +%s) - began)) s" \
	|| { echo "failed"; echo "$$said"; exit 1; }

.PHONY: help install smoke check test proof audit lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

install: $(VENV)/.installed  ## .venv, as pinned by constraints.txt

$(VENV)/.installed: pyproject.toml constraints.txt cluster/install.sh
	@sh cluster/install.sh

smoke: install  ## the whole pipeline on this machine: from text to a judged model and a report
	@$(RUN) jobs pipeline configs/pipeline/smoke.yaml $(ARGS)

check: install  ## format, lint, types, import contracts, unit tests
	@tree=$$($(TREE))
	$(call step,ruff check,$(RUN) ruff check)
	$(call step,ruff format,$(RUN) ruff format --check)
	$(call step,import contracts,$(BIN)/lint-imports)
	$(call step,mypy --strict,$(RUN) mypy)
	$(call step,bandit,$(RUN) bandit -q -c pyproject.toml -r llmcore jobs cluster)
	$(RUN) $(UNIT)
	[ "$$tree" != "$$($(TREE))" ] || echo "$$tree" >$(CHECKED)

test: install  ## every test; the unit tests only where `make check` has not passed for these very files
	@if [ -e $(CHECKED) ] && [ "$$(cat $(CHECKED))" = "$$($(TREE))" ]; then
		echo "  make check has passed for these files: its unit tests are not repeated"
	else
		$(RUN) $(UNIT)
	fi
	$(RUN) pytest tests/integration tests/e2e

proof: install  ## what proves a figure but takes longer, by topic: make proof TOPIC=...
	@marked=$$($(RUN) pytest --markers | sed -n 's/^@pytest.mark.proof_\([a-z_0-9]*\): /\1  /p')
	if [ -z "$(TOPIC)" ]; then
		echo "Topics, each at most an hour:"
		echo "$${marked:-none that is a test}" | sed 's/^/  /'
		echo "or a benchmark, ours and its peer:"
		$(RUN) jobs benchmark --help | sed 's/^/  /'
	elif echo "$$marked" | grep -q '^$(TOPIC) '; then
		$(RUN) pytest tests -m proof_$(TOPIC) $(ARGS)
	else
		$(RUN) jobs benchmark $(TOPIC) $(ARGS)
	fi

audit: install  ## known vulnerabilities of what is pinned; asks PyPI's advisory service
	@$(RUN) pip install -q 'pip-audit>=2.10'
	$(RUN) pip_audit -r constraints.txt --no-deps --disable-pip --strict

lock:  ## write anew what images install, by hash; needs uv
	@sh cluster/docker/lock.sh

clean:  ## remove .venv and caches; runs/ stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
