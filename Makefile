# Everything sets up what it needs, from nothing but Python >= 3.11 and pip.
# `make demo` shows it, `make test` tests it; `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= $(wildcard config.yaml)
DOCKER ?= $(shell command -v docker || command -v podman || echo docker)
IMAGE ?= ultravox-batch-monitor

# Tests start hundreds of Pythons: without what they have compiled, each begins by doing it anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo run test test-stack test-terminal test-deploy test-api test-browser test-chaos test-hostile test-days soak check format bench bench-foresight bench-budget bench-delivery lock image dashboards docs pictures manifests licences wheel sbom clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.deploy: requirements-deploy.lock $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-deploy.lock
	@touch $@

$(VENV)/.views: requirements-views.lock $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-views.lock
	@touch $@

demo: $(VENV)/.run  ## simulator, daemon and a live view: no key, no account, no configuration
	@$(BIN)/python -m monitor demo $(ARGS)

run: $(VENV)/.run  ## the daemon, with CONFIG=config.yaml, or without: with the key in ULTRAVOX_API_KEY
	@$(BIN)/python -m monitor run $(if $(CONFIG),--config.file $(CONFIG)) $(ARGS)

test: $(VENV)/.dev check-code  ## everything but the slow suites: format, lint, types, import contracts, tests
	$(BIN)/python -m pytest -n auto $(ARGS)

check: test  ## the same: what is checked is what is tested

.PHONY: check-code
check-code: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test-stack: $(VENV)/.dev  ## end to end, with the real prometheus, prometheus-alertmanager and promtool from PATH
	$(BIN)/python -m pytest -m stack $(ARGS)

test-terminal: $(VENV)/.dev  ## watch in a real terminal (tmux), completion in real shells (bash, zsh, fish)
	$(BIN)/python -m pytest -m terminal $(ARGS)

test-deploy: $(VENV)/.deploy  ## image, compose stack, rules, manifests, unit: built, run and checked (CONTRIBUTING.md says with what)
	PATH="$(CURDIR)/$(BIN):$$PATH" DOCKER=$(DOCKER) $(BIN)/python -m pytest -m deploy $(ARGS)

test-api: $(VENV)/.views  ## a real daemon is asked whatever docs/openapi.yaml allows, and what it does not
	$(BIN)/python -m pytest -m api $(ARGS)

$(VENV)/.axe: tests/browser/package-lock.json
	npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --silent
	@touch $@

test-browser: $(VENV)/.views $(VENV)/.axe  ## the pages in a real Chromium, and what keeps people from using them; needs chromium and npm
	$(BIN)/python -m pytest -m browser $(ARGS)

test-chaos: $(VENV)/.dev  ## is nothing lost when the daemon is killed again and again? CHAOS_ROUNDS=500 for a night of it
	OUTBOX_EXAMPLES=$${OUTBOX_EXAMPLES:-300} $(BIN)/python -m pytest tests/test_outbox_model.py
	$(BIN)/python -m pytest -m chaos $(ARGS)

test-hostile: $(VENV)/.dev  ## planted secrets, TLS, proxies, floods, and much more of what is made up by chance; needs openssl
	$(BIN)/python -m pytest -m hostile -n auto $(ARGS)
	HOSTILE_EXAMPLES=$${HOSTILE_EXAMPLES:-800} $(BIN)/python -m pytest -n auto -k "any or tampered" tests/test_bad_config.py tests/test_bad_payloads.py tests/test_bad_requests.py

test-days: $(VENV)/.dev  ## bad days of real daemons: stopped, out of descriptors, of disk, of answers, a damaged state file; two minutes
	$(BIN)/python -m pytest -m days -n 2 $(ARGS)

soak: $(VENV)/.dev  ## does anything grow in an hour of 2,000 batches, faults and reloads? SOAK_MINUTES=5 for a smaller one
	$(BIN)/python -m tests.soak

format: $(VENV)/.dev  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## what watching costs, each figure beside a peer or a limit; ARGS=--quick for a small one (benchmarks/README.md)
	$(BIN)/python -m benchmarks $(ARGS)

bench-foresight: $(VENV)/.dev  ## who is warned how early, beside a linear extrapolation and predict_linear
	$(BIN)/python -m benchmarks.foresight $(ARGS)

bench-budget: $(VENV)/.dev  ## requests a minute of an account of 1,000 batches; takes eleven minutes of real time
	$(BIN)/python -m benchmarks.budget $(ARGS)

bench-delivery: $(VENV)/.dev  ## what a message costs beside a bare POST of the same bytes, and its commits
	$(BIN)/python -m benchmarks.delivery $(ARGS)

lock: $(VENV)/.dev  ## resolve the dependencies anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev pyproject.toml -o requirements-dev.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group build -o requirements-build.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements-dev.lock --group deploy -o requirements-deploy.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements-dev.lock --group views -o requirements-views.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate -c requirements-dev.lock --group sbom -o requirements-sbom.lock

image:  ## the container image IMAGE, with docker or podman; PYTHON_VERSION=3.11 for another Python
	$(DOCKER) build $(if $(findstring podman,$(DOCKER)),--format docker) -t $(IMAGE) \
	  $(if $(PYTHON_VERSION),--build-arg PYTHON_VERSION=$(PYTHON_VERSION)) \
	  --build-arg VERSION=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' monitor/__init__.py) \
	  --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown) .

dashboards: $(VENV)/.dev  ## write deploy/grafana/dashboards from their source
	$(BIN)/python -m deploy.grafana.source

docs: $(VENV)/.dev  ## write the tables and the diagram of docs/ that come from the code
	$(BIN)/python -m docs.source

pictures: $(VENV)/.views  ## draw docs/images anew; needs chromium, prometheus, promtool and grafana-preview
	$(BIN)/python -m tests.deploy.pictures

manifests: $(VENV)/.dev  ## write the PrometheusRule of deploy/kubernetes from deploy/prometheus/rules
	$(BIN)/python -m deploy.kubernetes.prometheus_rule deploy/prometheus/rules/*.yml > deploy/kubernetes/prometheus-operator/prometheus-rule.yaml

licences: $(VENV)/.dev  ## write docs/licences.md from what the packages say
	$(BIN)/python -m deploy.supply.licences > docs/licences.md

wheel: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1700000000)
wheel: $(VENV)/.dev  ## dist/*.whl, the same bytes from the same commit
	$(BIN)/python -m hatchling build -t wheel -d dist

$(VENV)/.sbom: requirements-sbom.lock $(VENV)/.run
	$(PYTHON) -m venv --without-pip $(VENV)/sbom
	$(BIN)/python -m pip --python $(VENV)/sbom/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements-sbom.lock
	@touch $@

# Of an environment that holds what the lock says and nothing else. The version is not in pyproject.toml, where the tool looks for it.
sbom: $(VENV)/.sbom  ## dist/sbom.cdx.json: what runs with the monitor, as CycloneDX
	rm -rf build/sbom && mkdir -p build dist
	$(PYTHON) -m venv --without-pip build/sbom
	$(BIN)/python -m pip --python build/sbom/bin/python install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	sed "s/^dynamic = .*/version = \"$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' monitor/__init__.py)\"/" pyproject.toml > build/pyproject.toml
	$(VENV)/sbom/bin/cyclonedx-py environment --pyproject build/pyproject.toml --mc-type application --sv 1.6 --of JSON \
	  --output-reproducible --validate -o dist/sbom.cdx.json build/sbom/bin/python

clean:  ## remove what was built here
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
