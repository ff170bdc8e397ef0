# Everything a developer, CI and a release call. Needs make and a Python of 3.11 or newer; the rest is built into .venv from
# hashed locks. `make PYTHON=/path/to/python3.12 test` chooses the interpreter, `make test ARGS='-k policy'` passes arguments on.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

PYTHON ?=
WORKERS ?= 2
ARGS ?=
BIN := .venv/bin
SHELL_SCRIPTS := .ci/run $(wildcard tools/*.sh) requirements/compile.sh

# The product alone is enough to show it. One recipe builds the environment whatever goals are asked for, so that
# `make -j demo test` cannot run two installers at once.
SET := $(if $(filter-out demo dev,$(or $(MAKECMDGOALS),venv)),dev,broker)

.PHONY: help
help:  ## list these verbs
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

.PHONY: environment
environment:
	@PYTHON='$(PYTHON)' tools/venv.sh $(SET)

.PHONY: venv
venv: environment  ## build .venv with everything that tests and tools need

.PHONY: demo
demo: environment  ## watch one CI job get its keys, be refused, and be written down; ends by itself
	@$(BIN)/jobkey-broker demo $(ARGS)

.PHONY: dev
dev: environment  ## keep a broker with a practice CI running, to play with
	@$(BIN)/jobkey-broker dev $(ARGS)

.PHONY: test
test: check  ## check, then run every test on two cores
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

.PHONY: check
check: environment  ## lint, format, types, the client's oldest Python, the Dockerfile, the locks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy broker clients/python/jobkey bench tools
	@$(BIN)/vermin --target=3.9- --no-tips --violations --quiet clients/python/jobkey
	@$(BIN)/hadolint --config .hadolint.yaml Dockerfile
	@for script in $(SHELL_SCRIPTS); do bash -n "$$script" || exit 1; done
	@if grep -nE '://|--(index|extra-index|find-links|trusted-host)' requirements/*.lock; then \
		echo 'a lock names an address: write it again with requirements/compile.sh' >&2; exit 1; fi

.PHONY: fmt
fmt: environment  ## format the code and fix what can be fixed by itself
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: bench
bench: environment  ## measure issuances against floors taken in the same run; writes build/bench.json
	@$(BIN)/python -m bench $(ARGS)

.PHONY: image
image: environment  ## lint, build, start and ask the container image
	@$(BIN)/hadolint --config .hadolint.yaml Dockerfile
	@tools/image.sh

.PHONY: pyz
pyz: environment  ## build the client as one file, dist/jobkey.pyz
	@$(BIN)/python -I clients/python/build_pyz.py dist/jobkey.pyz

.PHONY: clean
clean:  ## remove what was built and cached; .venv stays
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find broker bench clients tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
