# Every command sets up what it needs. PYTHON names the interpreter (3.11 to 3.13) for the environment.
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV := UV_PROJECT_ENVIRONMENT=$(VENV) VIRTUAL_ENV=$(VENV) $(BIN)/uv
EXTRAS := --extra deployment --extra docker --extra dvc --extra flight-delays --extra kubernetes --extra monitoring --extra openlineage --extra s3 --extra xgboost-cpu
GROUPS := --all-groups
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo ui serve home up develop down backup restore test models-table test-torch test-containers ci-times newest-dagster check format bench bench-containers bench-install bench-lineage bench-serving bench-truth lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## Install the locked environment into .venv

# The lock names no package index, so that it works behind any mirror. Hashes identify the installed files.
$(INSTALLED): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); ml-assets needs Python 3.11 to 3.13. Next: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv && $(BIN)/uv --version | grep -qF ' $(UV_VERSION) ' || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the locked environment (about 1 GB the first time) ..."
	@mkdir -p build
	@$(UV) export --quiet --frozen $(GROUPS) $(EXTRAS) --no-emit-project --output-file build/requirements.txt
	@$(UV) pip sync --quiet --require-hashes build/requirements.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

HOME_LOCAL := var/local/dagster
export MLFLOW_DISABLE_TELEMETRY := true
export DAGSTER_HOME ?= $(CURDIR)/$(HOME_LOCAL)

demo: setup  ## Materialize the reference pipeline on this machine and show the records (about a minute)
	@MLFLOW_LOGGING_LEVEL=WARNING $(BIN)/python -m ml_assets.flight_delays.demo

ui: setup home  ## Start Dagster (http://127.0.0.1:3000), MLflow (:5000) and trace pages (:3001) with the demo's artifacts
	@echo "Dagster: http://127.0.0.1:3000   MLflow: http://127.0.0.1:5000   Lineage: http://127.0.0.1:3001   (Ctrl-C stops all)"
	@trap 'kill 0' EXIT; \
		$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///var/local/mlflow/mlflow.db \
			--default-artifact-root var/local/mlflow/artifacts >var/local/mlflow/server.log 2>&1 & \
		$(BIN)/ml-assets lineage serve 2>var/local/lineage.log & \
		$(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port 3000

# MODEL is an asset with its partition, or a data version. ml_assets/serving/settings.py lists more variables.
MODEL ?= delay_model@2013-04-01

serve: setup home  ## Start the model server on http://127.0.0.1:8080 with the demo's model
	@rm -rf var/local/served && $(BIN)/ml-assets data get $(MODEL) var/local/served
	@echo "Serving $(MODEL) on http://127.0.0.1:$${ML_ASSETS_SERVE_PORT:-8080} (documentation: /docs; Ctrl-C stops it)"
	@ML_ASSETS_SERVE_MODEL=file:$$(ls -d var/local/served/*) ML_ASSETS_SERVE_NAME=flight-delay $(BIN)/python -m ml_assets.serving

home:
	@mkdir -p $(DAGSTER_HOME) var/local/mlflow
	@cp deployments/local/dagster.yaml $(DAGSTER_HOME)/dagster.yaml

# The docker target needs only Docker with Compose, not the environment above.
DOCKER_TARGET := deployments/docker
COMPOSE := docker compose --file $(DOCKER_TARGET)/compose.yaml
DEVELOP := --file $(DOCKER_TARGET)/compose.develop.yaml
# An image contains no git repository, so the build receives the commit and the digest of uncommitted changes.
TOLD = COMMIT=$$(git rev-parse --quiet --verify HEAD) \
	DIRTY=$$(git rev-parse --quiet --verify HEAD >/dev/null && { test -z "$$(git status --porcelain)" && echo false || echo true; }) \
	DIFF_DIGEST=$$(test -z "$$(git status --porcelain 2>/dev/null)" || { git diff HEAD --binary; \
		git ls-files --others --exclude-standard -z | xargs -0 -r cat; } | git hash-object --stdin | sed 's/^/git:/') \
	REPOSITORY=$$(git config --get remote.origin.url | sed -E 's|//[^@/]*@|//|')

up: $(DOCKER_TARGET)/.env  ## Start the docker target on this machine's engine: Dagster on :3000, MLflow on :5000, steps in containers
	@$(TOLD) $(COMPOSE) up --build --detach $(UP_OPTIONS)
	@$(PIN_IMAGES)
	@$(COMPOSE) ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'

# Third-party images that .env does not name are pinned to the digests that the engine has pulled.
PIN_IMAGES = for service in postgres storage registry; do \
	variable=$$(echo $$service | tr a-z A-Z)_IMAGE; \
	grep -q "^$$variable=" $(DOCKER_TARGET)/.env && continue; \
	image=$$($(COMPOSE) config --images $$service 2>/dev/null | head -n 1); \
	digest=$$(docker image inspect --format '{{join .RepoDigests "\n"}}' "$$image" 2>/dev/null | head -n 1); \
	test -z "$$digest" || { echo "$$variable=$$digest" >>$(DOCKER_TARGET)/.env; echo "Pinned $$image in .env to $$digest"; }; done

develop: $(DOCKER_TARGET)/.env  ## The same with this checkout's code mounted, so that code changes need no build
	@ML_ASSETS_SOURCE=$(CURDIR) $(TOLD) $(COMPOSE) $(DEVELOP) up --detach $(UP_OPTIONS)
	@$(COMPOSE) ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'

down:  ## Stop the docker target; materialized content stays in its volumes (DOWN_OPTIONS=--volumes removes them)
	@ML_ASSETS_SOURCE=$(CURDIR) $(COMPOSE) down --remove-orphans $(DOWN_OPTIONS)

# Backups run online: Dagster's database, then MLflow's, then the content that they reference. A restore reverses this.
WITH_BACKUP = $(COMPOSE) run --rm --no-deps --user "$$(id -u):$$(id -g)" --env HOME=/tmp --volume "$(abspath $(BACKUP)):/backup" code-location
IN_POSTGRES = $(COMPOSE) exec --no-TTY postgres sh -c 'PGPASSWORD=$$POSTGRES_PASSWORD exec "$$@" --host=127.0.0.1 --username=ml_assets' --
NEEDS_BACKUP = test -n "$(BACKUP)" || { echo "error: BACKUP is not set. Next: make $@ BACKUP=directory" >&2; exit 2; }

backup: $(DOCKER_TARGET)/.env  ## Save all data of the docker target into BACKUP=directory, while it runs
	@$(NEEDS_BACKUP)
	@mkdir -p "$(BACKUP)/databases"
	@for database in dagster mlflow; do \
		file="$(BACKUP)/databases/$$database.dump"; echo "database $$database ..."; \
		$(IN_POSTGRES) pg_dump --dbname=$$database --format=custom --no-privileges --exclude-schema=ml_assets_reader --exclude-table='ml_assets_lineage_*' \
			>"$$file.unfinished" && mv "$$file.unfinished" "$$file" || exit 1; \
	done
	@$(WITH_BACKUP) ml-assets backup /backup

restore: $(DOCKER_TARGET)/.env  ## Restore a backup from BACKUP=directory into an empty docker target
	@$(NEEDS_BACKUP)
	@$(TOLD) $(COMPOSE) build --quiet code-location
	@$(COMPOSE) up --detach --wait postgres storage registry
	@tables=$$($(IN_POSTGRES) psql --dbname=dagster --tuples-only --no-align \
		--command="SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") || exit 1; test "$$tables" = 0 || { \
		echo "error: the docker target already has $$tables Dagster tables. Next: make down DOWN_OPTIONS=--volumes, which deletes all data" >&2; exit 1; }
	@$(COMPOSE) run --rm --no-deps bucket
	@$(WITH_BACKUP) ml-assets restore /backup
	@for database in mlflow dagster; do \
		echo "database $$database ..."; \
		$(IN_POSTGRES) pg_restore --dbname=$$database --no-owner --clean --if-exists --single-transaction \
			<"$(BACKUP)/databases/$$database.dump" || exit 1; \
	done
	@$(MAKE) --no-print-directory up

# Passwords are generated once and never committed. DOCKER_GROUP is the group with access to the engine's socket.
$(DOCKER_TARGET)/.env:
	@secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }; umask 077; { \
		echo "POSTGRES_PASSWORD=$$(secret)"; echo "READER_PASSWORD=$$(secret)"; echo "STORAGE_KEY=ml-assets"; echo "STORAGE_SECRET=$$(secret)"; \
		echo "DOCKER_GROUP=$$(stat -Lc %g /var/run/docker.sock 2>/dev/null || echo 0)"; } >$@.new && mv $@.new $@
	@echo "Wrote $@: passwords, and the group of Docker's socket."

# PYTEST_OPTIONS selects tests, as in PYTEST_OPTIONS="-n 0 -k docker".
test: setup  ## Run the tests, except those that need PyTorch, a container engine or a cluster
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/torch --ignore tests/containers --ignore tests/cluster $(PYTEST_OPTIONS)
	@echo "Not run: tests/torch (make test-torch), tests/containers and tests/cluster (make test-containers)."

# The locked PyTorch includes the GPU runtime, 5 GB that no test needs. If pip is configured with a folder of wheels
# (find-links) that has a CPU build, that build is used instead.
TORCH := build/torch
TORCH_ANY = $(shell sed -nE 's/.*"(torch>=[^"]+)".*/\1/p' pyproject.toml)

models-table: setup  ## Write the table of docs/models.md: train each supported estimator, and save it to be served
	@$(BIN)/python -m tests.resources.models.estimators

test-torch: $(TORCH)/.torch  ## Run the tests of PyTorch models in a separate environment (5 GB more without a CPU build of PyTorch)
	@$(TORCH)/bin/pytest tests/torch $(PYTEST_OPTIONS)

$(TORCH)/.torch: uv.lock pyproject.toml
	@$(MAKE) --no-print-directory setup VENV=$(TORCH) EXTRAS="$(EXTRAS) --extra torch --prune torch"
	@{ $(TORCH)/bin/python -m pip install --quiet --no-index --no-deps '$(TORCH_ANY)' 2>/dev/null && $(TORCH)/bin/python -c 'import torch'; } \
		|| { rm -f $(TORCH)/.installed && $(MAKE) --no-print-directory setup VENV=$(TORCH) EXTRAS="$(EXTRAS) --extra torch"; }
	@touch $@

# TESTS selects files, as in TESTS=tests/containers/test_compose.py.
TESTS := tests/cluster tests/containers

# Three workers on two cores, because a third of the time is spent waiting for containers.
test-containers: setup  ## Run the container and cluster tests, on an engine and cluster set up here (Debian, root), or on KUBECONFIG's
	@if [ -z "$$KUBECONFIG" ]; then exports="$$(tests/cluster/kube up)" || exit $$?; eval "$$exports"; fi; \
		$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --timeout 1800 $(TESTS) $(PYTEST_OPTIONS)

# REPORTS names the JUnit reports of a complete run; .ci/run writes them to build/ci.
REPORTS = $(wildcard build/ci/*.xml)

ci-times:  ## Update the budgets of CI's parts from the reports of a run
	@$(PYTHON) .ci/main.py --times $(REPORTS)

# NEWEST_OPTIONS=--strict fails if a test fails; PYTEST_OPTIONS selects tests, as above.
newest-dagster: setup  ## Test with the newest Dagster in build/newest, even if the pins exclude it, and report failures
	@$(UV) export --quiet --frozen $(GROUPS) $(EXTRAS) --no-emit-project --no-hashes --no-annotate --output-file build/newest-locked.txt
	@PYTEST_OPTIONS="$(PYTEST_OPTIONS)" $(BIN)/python .ci/newest_dagster.py --uv $(BIN)/uv $(NEWEST_OPTIONS) build/newest-locked.txt

check: setup  ## Check format, lint, types, and that the lock is current
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy .ci
	@$(UV) lock --check --quiet

format: setup  ## Format the code and apply lint fixes
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

bench: setup  ## Measure the promised figures and their baselines
	@$(BIN)/python -m tests.bench.loading
	@$(BIN)/python -m tests.bench.store
	@$(BIN)/python -m tests.bench.demo

bench-containers: setup  ## Measure steps and image builds on the cluster of make test-containers
	@if [ -z "$$KUBECONFIG" ]; then exports="$$(tests/cluster/kube up)" || exit $$?; eval "$$exports"; fi; \
		$(BIN)/python -m tests.bench.containers && $(BIN)/python -m tests.bench.images

bench-install: setup  ## Compare the size of an installation with dagster, mlflow and dvc installed by hand
	@$(BIN)/python -m tests.bench.install

bench-lineage: setup  ## Measure lineage questions on 100,000 materializations, with SQLite and PostgreSQL
	@$(BIN)/python -m tests.bench.lineage

bench-truth: setup  ## Measure what the observation of a running step costs
	@$(BIN)/python -m tests.bench.truth

bench-serving: setup  ## Compare the model server with other servers, installed in build/peers
	@$(BIN)/python -m tests.bench.serving

lock:  ## Resolve the dependencies and write uv.lock without index addresses (LOCK_OPTIONS=--upgrade for newer versions)
	@$(UV) lock $(LOCK_OPTIONS)
	@sed -i.bak -E 's|registry = "https?://[^"]*"|registry = "index"|; s|url = "https?://[^"]*/([^/"]+)"|path = "\1"|; s/, size = [0-9]+//' uv.lock && rm uv.lock.bak

clean:  ## Remove the environment and build products; materialized content stays in var/
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache
