# make quickstart | make test | make check. Everything lives in .venv; nothing outside the checkout is changed.
PYTHON ?= python3
VENV := .venv
# How many processes run the tests; each computes with one thread.
TEST_PROCESSES ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: install quickstart test lint check clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   install, fetch a real corpus, annotate it, print what was found"
	@echo "make test         install and run the whole test suite"
	@echo "make lint         ruff and mypy"
	@echo "make check        test and lint"
	@echo "make clean        remove .venv (data/ and runs/ stay)"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "curate needs Python 3.10 or newer; choose one: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "No venv module: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing into $(VENV): about 6 GB, most of it torch with its CUDA libraries; this takes a few minutes"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[offline,dev]'
	@$(BIN)/python -c 'import torchvision' 2>/dev/null || { \
	  echo "torch and torchvision do not work together: taking both from the package registry"; \
	  $(BIN)/python -m pip install --quiet --force-reinstall -c constraints.txt torch torchvision; }
	@$(BIN)/python -c 'import torchvision, open_clip'
	@touch $(READY)

quickstart: install
	@test -n "$$(apt-cache policy openclipart-png 2>/dev/null | grep 'Candidate: [0-9]')" || \
	  test -f data/clipart/_corpus.json || \
	  { echo "no package lists yet: apt-get update"; if [ "$$(id -u)" = 0 ]; then apt-get update -q; else sudo -n apt-get update -q; fi; } || \
	  echo "could not update the package lists; if the next step fails, type: sudo apt-get update"
	$(BIN)/curate data clipart --out data/clipart
	$(BIN)/curate run pipelines/quickstart.yaml

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: test lint

clean:
	rm -rf $(VENV)
