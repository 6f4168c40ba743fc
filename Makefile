# Everything a clone needs. `make demo` and `make test` set up their own environment in .venv.
#
#   PYTHON  the interpreter that .venv is made from (3.11 or newer)
#   TORCH   the torch to install: the version the tests were run with, by default. pip takes it from wherever it is
#           configured to look, so an index of CPU-only wheels saves the CUDA libraries; empty takes the newest.

PYTHON ?= python3
TORCH ?= torch==2.13.0

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
LINT_INSTALLED := $(VENV)/.lint-installed
MJWARP_INSTALLED := $(VENV)/.mjwarp-installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-mjwarp lint bench peers clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with vtt in it, editable

demo: $(INSTALLED) ## Train a touch policy, prove that it uses touch, show it
	$(BIN)/vtt demo

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest -q

test-all: $(INSTALLED) ## Run the tests, and those that learn for minutes
	$(BIN)/python -m pytest -q -m ""

test-mjwarp: $(MJWARP_INSTALLED) ## Run the tests of the back end mujoco-warp, which is installed for them
	$(BIN)/python -m pytest -q -m "" tests/envs/test_warp_engine.py

lint: $(LINT_INSTALLED) ## Check style, types and layers, then the built wheel and sdist
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/vermin -t=3.8- --no-tips --violations envs/vtt_envs/isaacgym/worker tests/envs/isaacgym_standin.py
	TORCH="$(TORCH)" $(BIN)/python .ci/smoke.py

bench: $(INSTALLED) ## Measure speed against the peers, write benchmarks/latest.json
	$(BIN)/python -m benchmarks

peers: ## Build the environment of the peers that `make bench` compares with
	bash benchmarks/peers.sh

clean: ## Remove the environments, caches and built files; runs/ stays
	rm -rf $(VENV) .venv-peers dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("vtt needs Python 3.11 or newer, \
	$(PYTHON) is %d.%d. Name a newer one: make install PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(TORCH) -e '.[test]'
	touch $@

$(MJWARP_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install $(TORCH) -e '.[test,mjwarp]'
	touch $@

$(LINT_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install $(TORCH) -e '.[test,lint]'
	touch $@
