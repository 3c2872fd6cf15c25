# Everything starts from nothing but Python 3.11 or later and the package index.
#   make demo   set up an environment and run the whole pipeline on synthetic data, on a CPU
#   make test   set up an environment and run the tests
#   make check  format, lint and types
#   make lock   pin every dependency, with hashes, in requirements.lock (Linux x86-64)
#   make audit  look the pinned versions up in the public list of known vulnerabilities (needs the network)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# torch and torchvision must come from one place: wheels that a machine keeps locally may not fit each other.
export PIP_FIND_LINKS =
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check lock audit clean

demo: $(VENV)/.installed
	$(BIN)/fusionctl demo --work-dir demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# No address of an index may get into the file: who installs decides where packages come from.
lock: $(VENV)/.tools
	$(VENV)/tools/bin/uv pip compile pyproject.toml --extra dicom --generate-hashes --quiet --upgrade \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
	  --no-emit-index-url --no-emit-find-links --no-annotate --no-header --output-file requirements.lock

audit: $(VENV)/.tools
	$(VENV)/tools/bin/pip-audit --strict --requirement requirements.lock --require-hashes --disable-pip

$(VENV)/.tools:
	$(PYTHON) -m venv $(VENV)/tools
	$(VENV)/tools/bin/python -m pip install --quiet uv pip-audit
	touch $@

$(VENV)/.installed: pyproject.toml setup.py fusionctl/data/_scan.c fusionctl/_boot.c
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fusionctl needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -c 'import torchvision'
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
