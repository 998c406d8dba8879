# `make demo` and `make test` set up what they need in .venv, then run; the second time they start
# at once and need no network. Wanted: make and Python 3.11 or newer with its venv module.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Inside the environment, so that they go with it.
STAMPS := $(VENV)/stamps
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet -c constraints.txt
NEEDS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test lint torch clean

help:
	@echo "make demo   fit the embedded generator to several views of a head; see runs/demo/report.html"
	@echo "make test   run the tests (TESTS=path or options for pytest)"
	@echo "make lint   check style and types"
	@echo "make torch  add PyTorch, the oracle of some tests"
	@echo "make clean  remove the environment; runs are kept"

demo: $(STAMPS)/run
	$(RUN) -m experiments.invert --overwrite $(ARGS)

# Neighbouring tests share what they compiled, so each worker starts with a half of its own.
test: $(STAMPS)/dev
	$(RUN) -m pytest -q -n 2 --dist worksteal $(TESTS)

lint: $(STAMPS)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) -m pyright

torch: $(STAMPS)/torch

clean:
	rm -rf $(VENV) *.egg-info

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is `$(PYTHON) --version 2>&1`." \
	  "Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' lacks its venv module; on Debian or Ubuntu: apt install python3-venv"; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/run: $(STAMPS)/venv $(NEEDS)
	@echo "Installing what the commands need (about a minute) ..."
	$(PIP) -e .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/venv $(NEEDS)
	@echo "Installing what the tests need (about a minute) ..."
	$(PIP) -e '.[dev]'
	@touch $@ $(STAMPS)/run

# Left out of `dev`: it is large, and the tests that want it are skipped without it.
$(STAMPS)/torch: $(STAMPS)/dev
	$(PIP) torch==2.13.0 pytorch-msssim==1.0.0
	@touch $@
