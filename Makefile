# Four words: demo, test, lint, install. Everything lands in .venv; Debian packages are installed where we are root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint install tools clean

demo: $(VENV)/.models
	$(BIN)/ainode demo

test: tools lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p ainode.node -p ainode.handlers -p ainode.models
	$(BIN)/lint-imports

install: $(VENV)/.models

tools:
	docker/debian-packages test

$(VENV)/bin/python:
	docker/debian-packages run
	$(PYTHON) -m venv $(VENV)

# torch first and alone: asked for by another package, an unpinned one brings several GB of CUDA packages
$(VENV)/.models: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch torchvision
	$(PIP) --editable '.[models,detect,read,web,orthanc]'
	touch $@

$(VENV)/.dev: $(VENV)/.models
	$(PIP) --editable '.[models,detect,read,web,orthanc,train,postgresql,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache ainode-demo
