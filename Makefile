# `make demo` and `make test` need only python3 (3.11 or newer): they create .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
ALL_STAMP := $(VENV)/.installed-all

# The models are small: more threads than this are slower.
export OMP_NUM_THREADS ?= 2
# Compiled modules are kept: the tests start many processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-rest test-browser test-deep lint format docs wheel clean

help:  ## list the targets
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing vaezoo and its tools into $(VENV) (a few minutes the first time) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

$(DOCS_STAMP): $(STAMP)
	@echo "Installing Sphinx and its extensions into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $@

$(ALL_STAMP): $(DOCS_STAMP)
	@echo "Installing Gradio and Selenium into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[browser]"
	@touch $@

demo: $(STAMP)  ## load pretrained models and make pictures with them
	$(BIN)/vaezoo demo

test: $(STAMP)  ## run the tests (under 5 minutes on two cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test-all: $(ALL_STAMP)  ## run the tests over the full product of combinations
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not deep" --numprocesses auto --dist worksteal

test-rest: $(ALL_STAMP)  ## run the tests of test-all that are not in test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "full and not deep" --numprocesses auto --dist worksteal

test-browser: $(ALL_STAMP)  ## test the page of vaezoo explore in Chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m deep tests/workflows/test_explorer_browser.py

test-deep: $(ALL_STAMP)  ## run the slow checks too
	$(BIN)/python -m pytest -m "deep or not deep" --timeout 3600

lint: $(STAMP)  ## check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DOCS_STAMP)  ## build the documentation site into build/docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going -q -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

wheel: $(STAMP)  ## build the sdist and the wheel into dist/
	$(BIN)/python -m build

clean:  ## remove what was built, but not .venv
	rm -rf build dist docs/reference/variants docs/reference/models docs/reference/commands.md .mypy_cache .ruff_cache .pytest_cache .hypothesis
