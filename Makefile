# Two commands on a new machine: `make demo` and `make test`. `make check` runs every other check.
PYTHON ?= python3
BIN := .venv/bin
# --no-compile: Python compiles a module when it is first imported. 1,283 MB on disk instead of 1,530.
PIP_SHOWN := $(BIN)/python -m pip install --no-compile --disable-pip-version-check --constraint constraints.txt
PIP := $(PIP_SHOWN) --quiet

.PHONY: demo test check format clean

demo: .venv/installed
	$(BIN)/lasttoken demo

# As many processes as there are processors, four at most; the tests of a file stay together, because they share models.
test: .venv/installed-test
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

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

# [serve] is 20 of the 1,300 MB, so that `lasttoken serve runs/demo` works after the demo.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Installing into .venv: about 1.3 GB on disk, most of it PyTorch. This takes two to five minutes, longer on a slow"
	@echo "network; pip says nothing while it unpacks, after 'Installing collected packages'."
	$(PIP_SHOWN) --editable '.[serve]'
	touch $@

.venv/installed-test: .venv/installed
	@echo "Installing what the tests need: about 2 GB on disk, most of it TensorFlow, in a few minutes."
	$(PIP_SHOWN) --editable '.[test,openai]'
	touch $@

.venv/installed-check: .venv/installed-test
	$(PIP) --editable '.[test,check]'
	touch $@

clean:
	rm -rf .venv
