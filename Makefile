# Both commands set up all that they need, the virtual environment included.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
RUNNING = $(VENV)/.running
INSTALLED = $(VENV)/.installed
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo test test-integration test-all test-versions test-upstream lint yamls

demo: $(RUNNING)  ## train yolov8n-gam on the built-in demo set and validate it
	$(BIN)/python scripts/train_det.py --cfg yolov8n-gam.yaml --project runs/demo

test: $(INSTALLED)  ## the quick tests, and a few whole runs
	$(PYTEST) -m "not integration and not slow"

test-integration: $(INSTALLED)  ## all other trainings, processes and releases that a change must pass
	$(PYTEST) -m "integration and not slow"

test-all: $(INSTALLED)  ## everything, with the runs that take minutes each
	$(PYTEST)

test-versions: $(INSTALLED)  ## the steps of docs/versions.md on every release, and write that page; one to two hours
	$(BIN)/python -m tools.versions

test-upstream: $(INSTALLED)  ## Ultralytics' own tests with and without the layers, installed and oldest release
	$(PYTEST) tests/upstream

yamls: $(INSTALLED)  ## write model_yamls/ anew
	$(BIN)/python -m tools.model_yamls

lint: $(INSTALLED)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(RUNNING): pyproject.toml
	@echo "Installing PyTorch, Ultralytics and what they need into $(VENV): 3.1 GB to download and 6.1 GB on disk,"
	@echo "with the CUDA build of PyTorch that PyPI has; a minute on a fast line. The training then takes some minutes on a CPU."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(INSTALLED): $(RUNNING)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	$(BIN)/python -m tools.versions --fetch 8.3.0 8.4.0
	touch $@
