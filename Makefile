# Two commands from a fresh machine: `make demo` and `make test`. `make check` is every other check.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test check format clean

demo: .venv/installed
	$(BIN)/lasttoken demo

test: .venv/installed-test
	$(BIN)/python -m pytest

check: .venv/installed-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed-check
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("lasttoken needs Python 3.11 or later; run make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[serve]'
	touch $@

.venv/installed-test: .venv/installed
	$(PIP) --editable '.[test,openai]'
	touch $@

.venv/installed-check: .venv/installed-test
	$(PIP) --editable '.[test,check]'
	touch $@

clean:
	rm -rf .venv
