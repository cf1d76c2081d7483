# Needs make and Python 3.11 or newer. `make PYTHON=/path/to/python3.12 run` picks another interpreter than the default.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PIP_INSTALL := $(PIP) install
# Bytecode is written, whatever the environment says: the tests start some hundred programs, which else compile it each time.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest
INSTALL_CHECKOUT := $(PIP_INSTALL) --no-deps --no-index --no-build-isolation --editable .

.DEFAULT_GOAL := help
.PHONY: help run shop drills build interpreted test unit coverage test-deploy check collect format lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Compiled or interpreted is a choice that stays: `make build` makes it, `make interpreted` takes it back. Once compiled, a
# changed source is compiled again before anything runs.
INSTALLED := $(VENV)/$(if $(wildcard $(VENV)/.compiled),.compiled,.runtime)

run: $(INSTALLED) .env ## Start the stub on 5001 and the gateway on 5000 (PORT=, STUB_PORT=); Ctrl-C stops both
	@$(BIN)/python -P -m gateway --version
	@$(BIN)/python scripts/run_local.py

shop: $(INSTALLED) ## Start the shop of examples/shop: gateway on 8000, services on 8001 to 8004; ARGS="--port 9000" moves them
	@exec env PYTHONPATH=examples $(BIN)/python -m shop $(ARGS)

drills: $(INSTALLED) ## Play each incident of the runbook on a shop of its own; ARGS="--quick", ARGS="--report FILE"
	@exec env PYTHONPATH=examples $(BIN)/python -m shop.drills $(ARGS)

build: $(VENV)/.compiled ## Compile the modules on the path of a request into .venv; needs gcc, takes some minutes

interpreted: $(VENV)/.runtime ## Take `make build` back: the checkout's sources run as they are
	$(INSTALL_CHECKOUT)
	@rm -f $(VENV)/.compiled

# More than half of a test's time is waiting, so there are more workers than cores; but each takes some seconds to find out
# what tests there are, and on a machine that is too busy tests that measure time fail. Each begins with a share of files that
# stand together, so that their tests have the same gateways, and takes over from others when it has finished. JOBS=0 runs the
# tests one by one, in one process.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(4 * len(os.sched_getaffinity(0)), 16))' 2>/dev/null || echo 4)

test: $(VENV)/.dev $(INSTALLED) ## Run every test; ARGS= goes to pytest, JOBS= says how many at once
	$(PYTEST) -n $(JOBS) --dist worksteal $(ARGS)

unit: $(VENV)/.dev $(INSTALLED) ## Run the unit tests, in seconds; ARGS= goes to pytest
	$(PYTEST) -n $(shell nproc 2>/dev/null || echo 2) tests/unit $(ARGS)

# Of the tests of behaviour: what those of faults and of the deployment run besides is little, and it would take twice the time.
coverage: $(VENV)/.dev ## Run the tests of behaviour, and say what none of them runs; fails below `fail_under`
	@test ! -e $(VENV)/.compiled || { echo "make: compiled code has no coverage; make interpreted first" >&2; exit 1; }
	$(PYTEST) -n $(JOBS) --dist worksteal $(foreach of,unit property conformance integration,tests/$(of)) \
	  --cov --cov-report=term:skip-covered $(ARGS)

test-deploy: $(VENV)/.dev ## Build the images and try the whole deployment, where Docker runs; ARGS= goes to pytest
	TEST_DEPLOY=1 $(PYTEST) -o faulthandler_timeout=1200 tests/deploy/docker $(ARGS)

check: $(VENV)/.dev ## Lint, formatting, types, import rules, sizes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) -q tests/unit/test_layers.py tests/unit/test_sizes.py

# Compiles the tests, once and alone, before processes that run them side by side would each compile all of them. Beside the
# checks it comes after them: they and a build have a core each.
collect: $(VENV)/.dev $(filter check,$(MAKECMDGOALS))
	@$(PYTEST) --collect-only -qq >/dev/null || echo "make: not every test can be collected" >&2

format: $(VENV)/.dev ## Format the code and fix what can be fixed safely
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## Write the lock files anew from pyproject.toml, on Python 3.11; ARGS=--upgrade takes newer versions
	$(PYTHON) scripts/lock.py $(ARGS)

clean: ## Remove the virtual environment and everything built or cached; .env stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.env:
	cp .env.example $@

# Made anew when its interpreter is gone. To change to another interpreter, `make clean` first.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." \
	    "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# The two marks hold what is installed. The development lock contains the runtime lock at the same versions.
$(VENV)/.runtime: $(BIN)/python requirements.lock
	$(PIP_INSTALL) --require-hashes -r requirements.lock
	$(INSTALL_CHECKOUT)
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

# The directories are among the sources: a file that is gone changes nothing else. `build` is removed before, because
# setuptools would pack what it finds there. The mark is as old as the start: what changes meanwhile is newer. So bytecode is
# written before: a directory that gets its __pycache__ while others run the sources would count as changed.
$(VENV)/.compiled: $(VENV)/.dev setup.py pyproject.toml $(shell find gateway upstream_stub -name __pycache__ -prune -o -print)
	@command -v gcc >/dev/null || { \
	  echo "make: compiling needs gcc; on Debian: apt-get install gcc libc6-dev. Without it: make interpreted" >&2; exit 1; }
	@$(BIN)/python -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("include")) / "Python.h").stat()' \
	  2>/dev/null || { echo "make: compiling needs the headers of Python; on Debian: apt-get install python3-dev" >&2; exit 1; }
	@echo "compiling the modules on the path of a request; this takes some minutes"
	@$(BIN)/python -m compileall -q gateway upstream_stub
	@rm -rf build && mkdir build && touch build/started
	GATEWAY_COMPILE=1 $(PIP) wheel --no-deps --no-index --no-build-isolation --wheel-dir build/wheel .
	$(PIP_INSTALL) --no-deps --no-index --force-reinstall build/wheel/*.whl
	@mv build/started $@

.PHONY: bench crash-walk bench-micro bench-compare

bench: $(VENV)/.dev $(INSTALLED) ## Measure the gateway beside its peers, in under 10 minutes; QUICK=1 in under 2, ARGS="--only hot"
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

crash-walk: $(VENV)/.dev ## Kill gateways at every point between two durable writes, 1,000 requests each; ARGS="-k sqlite"
	@CRASH_WALK_REQUESTS=$(or $(REQUESTS),1000) $(BIN)/python -m pytest -q \
	  $(foreach of,idempotency outbox sagas,tests/faults/test_$(of).py::test_the_crash_walk) $(ARGS)

bench-micro: $(VENV)/.dev $(INSTALLED) ## Measure single decisions and stages
	@$(BIN)/python -m benchmarks.micro $(ARGS)

bench-compare: $(VENV)/.dev $(INSTALLED) ## Say what got slower than benchmarks/baseline.json; ARGS=--accept writes it anew
	@$(BIN)/python -m benchmarks.compare $(ARGS)
