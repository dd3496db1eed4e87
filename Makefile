# Every verb of the project. `make up` is all that a fresh machine needs: Python 3.11 or newer, and make.
.DEFAULT_GOAL := help
.PHONY: help setup up demo dev test lint build bench soak mutants chaos chaos-cluster lock

# The first Python that is new enough; `make PYTHON=/path/to/python3 up` chooses another one.
PYTHON ?= $(shell for each in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$each -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$each && break; done)
BIN := .venv/bin
# Test files at a time, each with servers of its own; those of one file stay together and share what it starts.
WORKERS ?= 2
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --quiet

help: ## Show these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.dev ## Make .venv with all that developing needs

up: .venv/.run ## Start everything on this machine; Ctrl-C stops it
	@$(BIN)/automateos up

demo: .venv/.run ## Send a signed webhook three times, watch its one run
	@$(BIN)/automateos demo

dev: .venv/.run ## Like up; a service whose code changes is started again
	@$(BIN)/automateos dev

test: .venv/.dev ## Run all tests, against real servers
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: .venv/.dev ## Check style, types and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

build: .venv/.dev ## Build the wheel into dist/
	@$(BIN)/hatchling build -t wheel

bench: .venv/.run ## Measure the main path; QUICK=1 ends within 50 s
	@$(BIN)/python -m bench

soak: .venv/.dev ## Simulate a million schedules of faults; QUICK=1 too
	@$(BIN)/python -m tests.simulation.soak $(ARGS)

mutants: .venv/.dev ## Break our own code on purpose: it must be noticed
	@$(BIN)/python -m tests.mutants $(ARGS)

chaos: .venv/.dev ## Strike real processes under load, judge what is left
	@$(BIN)/python -m tests.chaos $(ARGS)

chaos-cluster: .venv/.dev ## The same on three nats-servers (Linux, root)
	@$(BIN)/python -m tests.chaos.cluster $(ARGS)

lock: .venv/.dev ## Resolve the dependencies anew into requirements/
	$(COMPILE) --extra embedded -o requirements/run.txt
	$(COMPILE) --extra embedded --extra dev -o requirements/dev.txt

.venv/.%: requirements/%.txt pyproject.toml deploy/setup/environment.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt install python3 python3-venv"; exit 1; }
	@$(PYTHON) deploy/setup/environment.py $*
