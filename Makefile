# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`. Either may come first.
PYTHON ?= python3
BIN := .venv/bin

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-isa test-float check install clean

demo: .venv/installed
	$(BIN)/edgeq demo

test: .venv/installed
	$(PYTEST)

# TensorFlow's float kernels are others by processor and setting (docs/runtimes.md): the whole suite under each of them
test-isa: test
	TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST)
	TF_ENABLE_ONEDNN_OPTS=0 $(PYTEST)
	TF_ENABLE_ONEDNN_OPTS=1 $(PYTEST)

# the tests that depend on them
test-float: .venv/installed
	$(PYTEST) -m tensorflow

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeq needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	touch $@

clean:
	rm -rf .venv build dist
