# make demo   does all set-up and runs the main job: a cell's images become a served variant
# make test   does all set-up, checks style, types and floors, and passes all tests, on WORKERS processes
# make test-fast     unit and property tests alone: no server, nothing that is marked slow
# make test-nightly  the slow tests with all of their rounds and requests, generated examples by the thousand
# make help   says this
# make setup  prepares .venv alone
# make clean  removes .venv and caches
#
# PYTHON names the interpreter (3.11 or newer, built with a shared libpython: Triton's Python stub needs it).
# DEMO_ARGS go to `parcelhub demo`, for example: make demo DEMO_ARGS="--data ../shared/data/rack-boxes --images 40"

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_ARGS ?=
TEST_ARGS ?=
WORKERS ?= 2

# Some containers turn bytecode off; then every process compiles torch and transformers anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test tests test-fast test-nightly lint style types clean help
setup: $(READY)

$(READY): pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(BIN)/uv || $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
# Only the Triton binary of this wheel is used. --no-deps keeps its numpy<2 pin out (docs/architecture.md).
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt --no-deps nvidia-pytriton
	touch $(READY)

demo: setup
	$(BIN)/parcelhub demo $(DEMO_ARGS)

lint: style types

style: setup
	$(BIN)/ruff format --check hub registry finetune serving benchmarks tests examples
	$(BIN)/ruff check hub registry finetune serving benchmarks tests examples

types: setup
	$(BIN)/lint-imports
	$(BIN)/mypy

# Tests of one file, and all that share Triton, Ray, a hub or a browser, stay on one worker (tests/conftest.py).
# Types are looked at beside them: tests wait for processes most of the time, and both have to pass.
test: style
	$(MAKE) -j 2 types tests

tests: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

test-fast: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not slow and not server" $(TEST_ARGS)

test-nightly: setup
	PARCELHUB_TESTS=nightly $(BIN)/python -m pytest -m "slow or examples" --timeout 7200 $(TEST_ARGS)

help:
	@sed -n '/^# make/s/^# //p' Makefile

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
