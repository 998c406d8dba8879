# `make demo` and `make test` set up what they need in .venv, then run; the second time they start
# at once and need no network. Wanted: make and Python 3.11 or newer with its venv module.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Inside the environment, so that they go with it.
STAMPS := $(VENV)/stamps
CONSTRAINTS := -c constraints.txt
PIP := $(RUN) -m pip --disable-pip-version-check install --quiet $(CONSTRAINTS)
NEEDS := pyproject.toml constraints.txt

# Large memory pages on Linux: XLA gets the memory of every step anew, and a third of a step's CPU
# time went into mapping it in small ones.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.DEFAULT_GOAL := help
.PHONY: help demo test test-newest lint docs torch store clean

help:
	@echo "make demo   fit the embedded generator to several views of a head; see runs/demo/report.html"
	@echo "make test   run the tests (TESTS=path or options for pytest)"
	@echo "make test-newest PYTHON=python3.12"
	@echo "            run them with the newest releases, without constraints.txt"
	@echo "make lint   check style and types"
	@echo "make docs   build the pages of docs/ and of the Python interface in site/"
	@echo "make torch  add PyTorch, the oracle of some tests"
	@echo "make store  add an object store, for the tests of runs in one"
	@echo "make clean  remove the environment; runs are kept"

demo: $(STAMPS)/run
	$(RUN) -m experiments.invert --overwrite $(ARGS)

# tests/conftest.py says which worker gets what. Three for two cores, as each waits now and then for
# a command that it has started.
test: $(STAMPS)/dev
	$(RUN) -m pytest -q -n 3 $(TESTS)

# Without constraints, as `pip install -e .` has it; anew each time, since releases come out.
NEWEST := .venv-newest

test-newest:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 12))' || { \
	  echo "The newest jax needs Python 3.12; '$(PYTHON)' is `$(PYTHON) --version 2>&1`." \
	  "Name another: make test-newest PYTHON=python3.12"; exit 1; }
	rm -rf $(NEWEST)
	$(MAKE) $(NEWEST)/stamps/dev VENV=$(NEWEST) CONSTRAINTS=
	@echo "Newest releases: `$(NEWEST)/bin/python --version`;" \
	  `$(NEWEST)/bin/python -m pip freeze --exclude-editable`
	$(MAKE) test VENV=$(NEWEST) CONSTRAINTS=

lint: $(STAMPS)/dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) -m pyright

# Every warning is an error; examples in docstrings are run.
docs: $(STAMPS)/dev
	$(RUN) -m mkdocs build --strict --quiet
	$(RUN) -m pytest -q -n 0 tests/test_docs.py
	@echo "site/index.html: open it in a browser"

torch: $(STAMPS)/torch

store: $(STAMPS)/store

clean:
	rm -rf $(VENV) $(NEWEST) site *.egg-info

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

# Left out of `dev`, too: forty packages; see tests/object_store.py.
$(STAMPS)/store: $(STAMPS)/dev
	$(PIP) s3fs==2026.9.0 aiobotocore==3.10.0 'moto[s3]==5.2.5' flask==3.1.3 flask-cors==6.0.5
	@touch $@
