# Both commands set up all that they need, the virtual environment included.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed

.PHONY: demo test test-all test-versions test-upstream lint yamls

demo: $(INSTALLED)  ## train yolov8n-gam on the built-in demo set and validate it
	$(BIN)/python scripts/train_det.py --cfg yolov8n-gam.yaml --project runs/demo

test: $(INSTALLED)  ## the tests that a change must pass
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: $(INSTALLED)  ## with the trainings that take minutes
	$(BIN)/python -m pytest -n 2

test-versions: $(INSTALLED)  ## the steps of docs/versions.md on every release, and write that page; one to two hours
	$(BIN)/python -m tools.versions

test-upstream: $(INSTALLED)  ## Ultralytics' own tests with and without the layers, installed and oldest release
	$(BIN)/python -m pytest -n 2 tests/upstream

yamls: $(INSTALLED)  ## write model_yamls/ anew
	$(BIN)/python -m tools.model_yamls

lint: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m tools.versions --fetch 8.3.0 8.4.0
	touch $@
