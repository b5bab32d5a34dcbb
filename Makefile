# Works with GNU make 3.81 (macOS) and newer. Everything is installed into .venv and nowhere else.
#
#   PYTHON       the interpreter that makes .venv (default: python3; 3.11 or newer)
#   WORKERS      test processes (default: one a core, at most 8)
#   PYTEST_ARGS  more arguments for pytest, e.g. make test PYTEST_ARGS="-k mel"
#   EXTRAS       what is installed to test with; where Ray has no wheel: make test EXTRAS=train,test,hub,metrics
#   CYMATIC_SLOW=1  runs the slow tests too

PYTHON ?= python3
WORKERS ?= auto
PYTEST_ARGS ?=
EXTRAS ?= train,test,hub,metrics,cluster

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A stamp is as new as the last install; it is older than its inputs when they have changed since.
CORE := .venv/.cymatic-core
TEST := .venv/.cymatic-test
INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test clean

help:
	@echo "make demo    hear \"george says seven\": writes seven.wav and seven.png"
	@echo "make test    ruff, mypy and pytest"
	@echo "make clean   remove .venv, caches and what demo wrote"

demo: $(CORE)
	$(BIN)/cymatic sound "george says seven" --seed 1 -o seven.wav --plot seven.png
	@echo
	@echo "The sound:   $(CURDIR)/seven.wav"
	@echo "Its picture: $(CURDIR)/seven.png"

# One thread a worker: the workers already fill the cores.
test: $(TEST)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 $(PYTEST_ARGS)

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis dist seven.wav seven.png
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "cymatic needs Python 3.11 or newer, and there is no '$(PYTHON)' here; try make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "cymatic needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1); try make PYTHON=python3.12" >&2; \
	  exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(CORE): $(INPUTS) | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	@touch $(CORE)

# The test install holds the core too, so it renews both stamps.
$(TEST): $(INPUTS) | $(BIN)/python
	$(PIP) install -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(CORE) $(TEST)
