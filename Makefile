# Every target makes the virtual environment by itself when there is none.
VENV ?= .venv
PYTHON ?= python3
EXTRAS ?= test,browser,report,batch,docs,compare
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The versions that are tested: `newest`, and for test-oldest `oldest`.
CONSTRAINTS ?= constraints/newest.txt

FUZZ_SEED ?= 1000000
FUZZ_CASES ?= 100000

.PHONY: demo test test-oldest fuzz bench docs lint clean

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/webbkg demo demo-output

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Without the extra `compare`: the jwst package is not there.
test-oldest:
	$(MAKE) test VENV=.venv-oldest EXTRAS=test,report,batch CONSTRAINTS=constraints/oldest.txt

# Damaged files from FUZZ_SEED on; a failing one says how to run it again.
fuzz: $(STAMP)
	$(BIN)/python tests/fuzzing.py --seed $(FUZZ_SEED) --count $(FUZZ_CASES) --processes 2

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

docs: $(STAMP)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-oldest docs/_build demo-output
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
