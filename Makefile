# Every target sets up what it needs: Python >= 3.11 is all that has to be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AZURITE := $(VENV)/azurite
SERVERS := $(AZURITE)/.ready
DEMO := demo
# The benchmark; only figures in full, which take about 20 minutes (growth: 10), are kept for the README.
PEERS := $(VENV)/peers
FACTOR ?= 1
RUNS ?= 5
CASES ?= all
FIGURES = $(if $(filter 1,$(FACTOR)),--json tests/bench/results.json --plots tests/bench/plots)

.DEFAULT_GOAL := help
.PHONY: help demo test lint check format bench proof lock clean

help: ## show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

demo: $(READY) ## export a sample audit database into a folder, and show what was delivered
	@rm -rf $(DEMO)
	@$(BIN)/audit-exporter init $(DEMO) | sed '/^Next:/d'
	@if [ -t 2 ]; then $(BIN)/audit-exporter run -c $(DEMO)/audit-exporter.yaml; \
	else $(BIN)/audit-exporter run -c $(DEMO)/audit-exporter.yaml 2>$(DEMO)/run.log; fi
	@echo
	@echo "Next: $(BIN)/audit-exporter status -c $(DEMO)/audit-exporter.yaml"

test: $(SERVERS) ## pass every test
	@$(BIN)/python -m pytest -n auto

lint: $(READY) ## format, lint, strict types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check: lint $(SERVERS) ## the same, the import rule and the fast tests
	@$(BIN)/python -m pytest -n auto -m "not slow and not proof"

format: $(READY) ## rewrite the code in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY) $(PEERS)/.ready ## whole runs beside those of peers; FACTOR=0.01 is quick, CASES=growth how costs grow
	@$(BIN)/python -m tests.bench --factor $(FACTOR) --runs $(RUNS) --cases $(CASES) --peers $(PEERS) $(FIGURES)
	@$(if $(FIGURES),$(BIN)/python -m tests.bench.readme)

proof: $(SERVERS) $(PEERS)/.ready ## the protocol's proofs at full length
	@$(BIN)/python -m pytest -n auto -m proof --ignore tests/test_storm.py
	@$(BIN)/python -m pytest -n 0 -m proof tests/test_storm.py
	@$(BIN)/python -m tests.simulation --schedules 1000000 --jobs $$(nproc)

lock: $(READY) ## look for newer versions of the dependencies
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --group dev --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --constraint requirements.lock --output-file deploy/requirements.lock
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header tests/bench/requirements.txt --output-file tests/bench/requirements.lock

clean: ## remove what the targets made
	rm -rf $(VENV) $(DEMO) build audit_exporter.egg-info exporter/_bulk.*so .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(READY): requirements.lock pyproject.toml exporter/_bulk.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 …"; exit 1; }
	@echo "setting up $(VENV) …"
	@rm -f exporter/_bulk.*so
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'from exporter.bulk import IS_COMPILED; IS_COMPILED or print("exporter/_bulk.c was not compiled", \
		"(it needs a C compiler and the headers of Python): Python does the same, slower")'
	@touch $@

# An environment of their own: beside ours they would change what is measured.
$(PEERS)/.ready: tests/bench/requirements.lock | $(READY)
	@echo "setting up $(PEERS) …"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/bench/requirements.lock
	@touch $@

# Azure's storage for tests: it is on npm alone, and Node comes with the wheel.
$(SERVERS): tests/kit/npm/package-lock.json | $(READY)
	@echo "setting up $(AZURITE) …"
	@mkdir -p $(AZURITE)
	@cp tests/kit/npm/package.json tests/kit/npm/package-lock.json $(AZURITE)
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix $(AZURITE) --silent --no-audit --no-fund
	@touch $@
