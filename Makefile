# Every target that needs Python makes .venv by itself, from requirements.lock. `make` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The Pythons to try, best first. The embedded Redis that pip brings exists for 3.11 and 3.12.
PYTHON ?= python3.12 python3.11 python3
# Test processes: one more than cores, as tests also wait for processes that they start.
JOBS ?= $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )))
UV ?= uv

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo demo-short dev test test-shell test-node test-ha test-tls check bench quality mutants chaos chaos-short chaos-mutants lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## watch the balancer at work on a real trace
	$(BIN)/balancer demo

demo-short: $(STAMP) ## the same on 200 tasks, figures as JSON
	$(BIN)/balancer demo --limit 200 --json

dev: $(STAMP) ## a Redis and a balancer to develop against
	$(BIN)/balancer dev

# Many tests start Python; without its cache each compiles everything anew.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP) ## all tests; COV=1 asks for 90 % of the branches, too
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(if $(COV),--cov --cov-fail-under=90)

test-shell: $(STAMP) ## the example agent in bash; needs redis-cli
	$(BIN)/python -m pytest -n $(JOBS) tests/languages/test_agents.py --language shell
	@if command -v shellcheck > /dev/null; then shellcheck examples/*.sh; else echo "shellcheck is not here: not run"; fi

test-node: $(STAMP) ## the example agent in Node, and the golden vectors in JavaScript; needs node
	$(BIN)/python -m pytest -n $(JOBS) tests/languages --language node

test-ha: $(STAMP) ## a pool on a Redis Cluster and behind Sentinels, with failovers
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/ha

test-tls: $(STAMP) ## a pool over TLS; needs a redis-server with TLS, and openssl
	$(BIN)/python -m pytest tests/tls

check: $(STAMP) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP) ## measure; QUICK=1 for a minute's worth
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick)

quality: $(STAMP) ## what decisions are worth on the traces in TRACES=folder; QUICK=1, LEARNED=1, REFERENCE=files
	@[ -n "$(TRACES)" ] || { echo "make quality TRACES=folder: which traces are to be replayed?" >&2; exit 2; }
	@$(BIN)/python -m benchmarks.quality --traces "$(TRACES)" $(if $(QUICK),--quick) $(if $(LEARNED),--learned) \
		$(if $(REFERENCE),--reference $(REFERENCE))

mutants: $(STAMP) ## break the code on purpose and see whether a test notices
	$(BIN)/python tests/mutants/run.py

chaos: $(STAMP) ## random faults on real processes, 2.5 minutes; SEED=N repeats one
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

chaos-short: $(STAMP) ## the same in 40 seconds
	$(BIN)/python -m tests.chaos --short $(if $(SEED),--seed $(SEED))

chaos-mutants: $(STAMP) ## which planted faults chaos finds
	$(BIN)/python -m tests.chaos.mutants

# Of what the locks say: every file with its hash, no address of an index, the same versions in all of them.
COMPILE = $(UV) pip compile --universal --generate-hashes --no-strip-extras --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" --quiet

lock: ## write the lock files anew; UPGRADE=1 takes the newest versions
	@command -v $(UV) > /dev/null || { echo "make lock needs uv: https://docs.astral.sh/uv/" >&2; exit 1; }
	$(COMPILE) pyproject.toml --extra dev-server --group dev $(if $(UPGRADE),--upgrade) \
		--output-file requirements.lock > /dev/null
	$(COMPILE) pyproject.toml --constraints requirements.lock --output-file requirements-run.lock > /dev/null
	$(COMPILE) --group build --constraints requirements.lock --output-file requirements-build.lock > /dev/null

clean: ## remove what make made
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python counts when it runs: a pyenv shim can be on PATH and fail, a Debian python3 can lack venv.
$(STAMP): requirements.lock pyproject.toml
	@found=""; \
	for python in $(PYTHON); do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
			found="$$python"; break; \
		fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "No Python 3.11 or newer that works (tried: $(PYTHON))." >&2; \
		echo "Install one with its venv module, or name yours: make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	$(BIN)/python -m pip --version > /dev/null 2>&1 || "$$found" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@
