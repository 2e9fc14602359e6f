# Two commands on a fresh machine with Python 3.11: `make demo` and `make test`. Either may come first. For work on edgeq: CONTRIBUTING.md
PYTHON ?= python3
BIN := .venv/bin

PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile
INSTALL = $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: demo test quick test-isa test-float check lint types imports links graph docs install clean

demo: .venv/installed
	$(BIN)/edgeq demo

test: .venv/installed
	$(PYTEST)

# laws and units without TensorFlow, in under 40 seconds; what lies in the ignored folders is not even imported
quick: .venv/installed
	HYPOTHESIS_PROFILE=quick $(PYTEST) -m "not tensorflow and not slow and not shared" $(addprefix --ignore=tests/,api cli hostile keras runtimes)

# TensorFlow's float kernels are others by processor and setting (docs/runtimes.md): the whole suite under each of them
test-isa: test
	TF_ENABLE_ONEDNN_OPTS=1 ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST)
	TF_ENABLE_ONEDNN_OPTS=0 $(PYTEST)
	TF_ENABLE_ONEDNN_OPTS=1 $(PYTEST)

# the tests that depend on them
test-float: .venv/installed
	$(PYTEST) -m tensorflow

check: lint types imports links

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

# the floors, the graph of imports and its picture, the length of the commands
imports: .venv/installed
	$(BIN)/lint-imports
	$(BIN)/python tools/import_graph.py
	$(BIN)/python tools/check_commands.py

links: .venv/installed
	$(BIN)/python tools/check_links.py

# draws the rooms in docs/architecture.md again
graph: .venv/installed
	$(BIN)/python tools/import_graph.py --write

# the site of docs/ with the Python reference, in site/; broken links, anchors and references are errors
docs: .venv/docs
	$(BIN)/python -m pytest -n 0 tests/project/test_docs_site.py
	$(BIN)/python -m mkdocs build

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeq needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(INSTALL) --editable '.[all,dev]'
	touch $@

.venv/docs: .venv/installed
	$(INSTALL) --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv build dist site
