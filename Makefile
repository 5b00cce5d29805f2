# The one task runner. Every target stands alone: the first command in a fresh clone may be any of them.
# PYTHON=/path/to/python3 chooses the interpreter of .venv; CI=true makes live tests fail where they would be skipped.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench parity fuzz golden docs requirements clean system static FORCE
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input

ifeq ($(CI),true)
export LAYERGATE_REQUIRE_LIVE ?= 1
endif

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## system packages, .venv, BPF objects; leaves the command at .venv/bin/layergate
	@$(BIN)/python tools/build_bpf.py

demo: setup ## a first look at what layergate does
	@$(BIN)/layergate demo

test: setup static ## everything: format, lint, types, import direction, all tests (live ones as root)
	@echo "test: pytest"
	@$(BIN)/python -m pytest tests
	@echo "test: all forms of the classifier against one another (make parity compares 10,000,000)"
	@$(BIN)/python -m tests.parity.long --tables 100000 --kernel 40000

check: setup static ## the quick part of test, under a minute: the same checks, unit and parity tests
	@echo "check: pytest, unit and parity"
	@$(BIN)/python -m pytest -q $(wildcard tests/unit tests/parity)

bench: setup ## measure, and append to bench/history.jsonl
	@$(BIN)/python -m bench

# TABLES, KERNEL: how many comparisons; SEED=2 others. `make test` makes 100,000 and 40,000.
parity: setup ## compare reference, interpreter, columns and kernel (root), over drawn sets, by the million
	@$(BIN)/python -m tests.parity.long --tables $(or $(TABLES),10000000) --kernel $(or $(KERNEL),1000000) --seed $(or $(SEED),1)

# COUNT=1000000 tries more; SEED=2 others. The unit tests try 3,000.
fuzz: setup ## damaged dumps of Windows, and TCP segments that nobody would send, by the hundred thousand
	@$(BIN)/python -m tests.unit.windows.fuzz $(or $(COUNT),100000) --seed $(or $(SEED),1)
	@$(BIN)/python -m tests.unit.tcp.fuzz $(or $(COUNT),100000) --seed $(or $(SEED),1)

golden: setup ## write the reviewed outputs anew (tests/golden): look at what changed
	@$(BIN)/python -m pytest -q tests/unit --golden

docs: setup ## write the generated pages anew
	@$(BIN)/python tools/gen_docs.py
	@$(BIN)/python tools/gen_tcp_states.py

# Run it with Python 3.11, the oldest supported: newer ones may need fewer packages.
requirements: setup ## pin requirements/dev.in anew into requirements/dev.txt
	@tools/pin-requirements $(BIN)/python

clean: ## remove everything that was made, .venv too
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/layergate/kernel/objects
	find src tests tools bench docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# --- the steps of setup: each is done once, and again when what it depends on changed ---------------------------------

system:
	@tools/install-system-packages

# A virtual environment can't be moved: it remembers its place, and is made anew elsewhere.
$(VENV)/.place: $(shell [ "$$(cat $(VENV)/.place 2>/dev/null)" = "$$(pwd -P)" ] || echo FORCE) | system
	@python=$$(tools/find-python); echo "setup: $(VENV) with $$python"; \
	rm -rf $(VENV); "$$python" -m venv $(VENV); pwd -P >$@

$(VENV)/.requirements: requirements/dev.txt $(VENV)/.place
	@echo "setup: development tools from $<"
	@$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.installed: pyproject.toml hatch_build.py src/layergate/__init__.py $(VENV)/.requirements
	@echo "setup: layergate, from this directory"
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

# --- the steps of test and check ---------------------------------------------------------------------------------------

static: setup
	@echo "check: ruff format"; $(BIN)/ruff format --quiet --check . || { echo "not formatted: $(BIN)/ruff format ." >&2; exit 1; }
	@echo "check: ruff"; $(BIN)/ruff check --quiet .
	@echo "check: mypy"; $(BIN)/mypy --no-error-summary
	@echo "check: import direction"; $(BIN)/lint-imports | sed -n '/^Contracts$$/,$$p'
