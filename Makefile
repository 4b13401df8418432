# `make demo` and `make test` are all there is to know; both set up .venv on first use and reuse it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What is installed is compiled when it is first imported, and kept: all at once would take a minute more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint types unit clean

demo: $(READY)
	$(BIN)/python example/demo.py --output outputs/demo

# The types are checked beside the first tests: that takes one core for a while, and tests often wait.
test: lint
	@$(MAKE) --no-print-directory --jobs=2 types unit

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
# torch first and alone: asked for by another package, the newest build with CUDA would come instead.
	$(BIN)/pip install --quiet --no-compile $$(grep '^torch==' requirements.txt)
	$(BIN)/pip install --quiet --no-compile -r requirements.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) outputs
