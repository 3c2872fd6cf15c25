# Everything starts from nothing but Python 3.11 or later and the package index.
#   make demo   set up an environment and run the whole pipeline on synthetic data, on a CPU
#   make test   set up an environment and run the tests
#   make check  format, lint and types
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# torch and torchvision must come from one place: wheels that a machine keeps locally may not fit each other.
export PIP_FIND_LINKS =
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/fusionctl demo --work-dir demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml setup.py fusionctl/data/_scan.c fusionctl/_boot.c
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusionctl needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -c 'import torchvision'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
