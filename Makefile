# PYTHON is any Python from 3.11 on; PORT moves the demo.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
SIGNALWIRE := $(VENV)/clients-signalwire
DOCS := $(VENV)/docs
SITE := deploy/site
NODE_MODULES := tests/clients/node/node_modules/.package-lock.json
PYTEST_ARGS ?=
PYTHONS ?= 3.11 3.12 3.13
# How many processes run tests: twice the processors, for much of a test is waiting. JOBS=0 runs all in one.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
BENCH_ARGS ?=

# Modules are compiled once, and not again by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-pythons lint format docs lock bench system clean

# In the shell's own place, so that what ends `make` reaches it; what cannot be passed on, it sees by itself.
demo: $(VENV)/.runtime
	@PORT=$(PORT) exec $(BIN)/media-gateway demo --parent $$PPID

test: $(VENV)/.dev system $(NODE_MODULES) $(SIGNALWIRE)/.installed
	$(BIN)/pytest --numprocesses=$(JOBS) --dist=worksteal $(PYTEST_ARGS)

# The tests that need no gateway process, on each supported Python that is here; .ci/run wants all of PYTHONS.
test-pythons: system
	@tests/pythons.sh $(VENV) $(PYTHONS) -- --numprocesses=$(JOBS) $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check proxy tests
	$(BIN)/ruff check proxy tests
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix proxy tests
	$(BIN)/ruff format proxy tests

# The gateway beside nginx and Varnish, a crowd, a million entries; about ten minutes. BENCH_ARGS="--smoke" is a try.
bench: $(VENV)/.dev system
	$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

# The servers and the browser that tests run against. Without root or sudo the tests say what they miss.
system:
	@tests/system-packages.sh redis-server:redis-server nginx:nginx chromium:chromium curl:curl openssl:openssl \
	  systemd-analyze:systemd systemd-socket-activate:systemd node:nodejs npm:npm \
	  varnishd:varnish wrk:wrk cc:gcc promtool:prometheus docker-compose:docker-compose caddy:caddy \
	  logrotate:logrotate

# The providers' Node libraries; the tests say what is missing where npm or its index is not there.
$(NODE_MODULES): tests/clients/node/package-lock.json | system
	@cd tests/clients/node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || echo "npm ci failed" >&2

# SignalWire's library pins an old twilio: an environment of its own.
$(SIGNALWIRE)/.installed: tests/clients/signalwire/requirements.txt | $(BIN)/python
	@$(BIN)/python -m venv --without-pip $(SIGNALWIRE)
	@$(BIN)/pip --python $(SIGNALWIRE)/bin/python install --quiet --disable-pip-version-check --no-deps --require-hashes -r $< && touch $@ || \
	  echo "the environment of SignalWire's library could not be made" >&2

# The documents as a site, in $(SITE)/build; a link or an anchor that leads nowhere fails it.
docs: $(DOCS)/.installed
	@rm -rf $(SITE)/docs $(SITE)/build $(SITE)/.cache && mkdir $(SITE)/docs
	@git ls-files -z -- '*.md' LICENSE deploy tests/vectors ':!$(SITE)' | xargs -0 cp --parents --target-directory=$(SITE)/docs
	$(DOCS)/bin/zensical build --strict --config-file $(SITE)/zensical.toml

# Pins of everything, for every Python and platform that is supported.
lock: $(VENV)/.dev
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --extra redis --extra speed pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --extra redis --extra speed --extra test --extra dev --constraint requirements.lock pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --constraint requirements-dev.lock --group build -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --group docs -o requirements-docs.lock

clean:
	rm -rf $(VENV) $(SITE)/docs $(SITE)/build $(SITE)/.cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* dist build

$(VENV)/.runtime: pyproject.toml requirements.lock requirements-build.lock | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock -r requirements-build.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

# The site's own environment: tests and the gateway do without it.
$(DOCS)/.installed: requirements-docs.lock | $(BIN)/python
	$(BIN)/python -m venv --without-pip $(DOCS)
	$(BIN)/pip --python $(DOCS)/bin/python install --quiet --disable-pip-version-check --require-hashes --no-deps -r $<
	@touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
