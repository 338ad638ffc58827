# Every command sets up what it needs. PYTHON names the interpreter (3.11 to 3.13) that the environment is made from.
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
UV := UV_PROJECT_ENVIRONMENT=$(VENV) VIRTUAL_ENV=$(VENV) $(BIN)/uv
EXTRAS := --extra cpu --extra flight-delays --extra s3
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test check format bench lock clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## Install the locked environment into .venv

# The lock names no package index, so that it serves behind any mirror: hashes, not addresses, say what is installed.
$(INSTALLED): uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); ml-assets needs Python 3.11 to 3.13. Next: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv && $(BIN)/uv --version | grep -qF ' $(UV_VERSION) ' || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the locked environment (about 1 GB the first time) ..."
	@mkdir -p build
	@$(UV) export --quiet --frozen --all-groups $(EXTRAS) --no-emit-project --output-file build/requirements.txt
	@$(UV) pip sync --quiet --require-hashes build/requirements.txt
	@$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
