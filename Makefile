# rlhf-bench: `make bench` trains six checkpoints and compares them, `make test` runs every test. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
# Where torch comes from. Empty is pip's default, which on Linux is a build with CUDA of several GB.
TORCH_INDEX ?=

# FAST=1 is a shortened training, to see that everything works.
FAST ?=
RECIPE ?= $(if $(filter-out 0,$(FAST)),mini-short,mini)
RUN ?= $(if $(filter-out 0,$(FAST)),mini-short,default)
TRAIN_ARGS ?=
EVAL_ARGS ?=
TEST_ARGS ?=
# Processes that run tests side by side, a file each; 0 for none.
WORKERS ?= 2

# Compiled modules are kept, whatever the environment says: every process would compile them again.
export PYTHONDONTWRITEBYTECODE :=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

.DEFAULT_GOAL := help
.PHONY: help install bench test test-slow check format clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables (make bench NAME=value):"
	@echo "  FAST=1                 shortened training, a few minutes less"
	@echo "  TRAIN_ARGS='...'       more options for rlhf-bench train, such as --seeds 3 or --set dpo.beta=0.2"
	@echo "  EVAL_ARGS='...'        more options for rlhf-bench eval, such as --limit 50"
	@echo "  RECIPE=name RUN=name   another recipe, another name for its checkpoints and results"
	@echo "  TEST_ARGS='...'        more options for pytest, such as -m 'not slow'"
	@echo "  WORKERS=0              how many processes run tests side by side (default 2)"
	@echo "  TORCH_INDEX=url        where torch comes from, such as https://download.pytorch.org/whl/cpu"
	@echo "  PYTHON=python3.12      which Python the environment is made with (3.10 or newer)"

# Stamps: the environment is made and filled again only when pyproject.toml has changed, so later runs need no network.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "error: Python 3.10 or newer is needed; name one: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "torch>=2.9,<2.14" $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

install: $(VENV)/.installed ## the environment with the package in it

bench: $(VENV)/.installed ## train every stage, evaluate, audit; the table and the paths come last
	$(BIN)/rlhf-bench train all --recipe $(RECIPE) --run $(RUN) $(TRAIN_ARGS)
	$(BIN)/rlhf-bench eval --suite hh-test --run $(RUN) $(EVAL_ARGS)
	$(BIN)/rlhf-bench audit --run $(RUN)
	@$(BIN)/rlhf-bench report --show

test: $(VENV)/.installed-dev ## every test but those of test-slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

test-slow: $(VENV)/.installed-dev ## minutes: 20 SIGKILLs a stage of a training, 50 in a judge run, launchers, sizes
	$(BIN)/python -m pytest -m kills $(TEST_ARGS)

check: $(VENV)/.installed-dev ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove checkpoints, results and caches; spares the environment, results/reference and results/judge.sqlite
	rm -rf checkpoints build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@if [ -d results ]; then find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name reference ! -name 'judge.sqlite*' -exec rm -rf {} +; fi
	find rlhf_bench trainers tests -name __pycache__ -type d -prune -exec rm -rf {} +
