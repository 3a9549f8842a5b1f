# `make run` and `make test` prepare everything they need below .venv; nothing else on the machine is touched.
# `run` installs what runs; the tools of `test`, `check` and `bench` come with these.
PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= configs/example.yaml
WORKFLOW ?= ConnectedComponentsWorkflow
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable
# pip would compile on one processor, and the libraries' own tests too: half of an installation's time. The sources here are
# not pip's to compile; where PYTHONDONTWRITEBYTECODE is set, each process would do it for itself.
COMPILE := $(BIN)/python -W ignore -m compileall -q -j 0 -x '/tests?/' .venv/lib blockwise pipeline tasks || true

.PHONY: help install run view test slurm bench soak container check format clean
.NOTPARALLEL:  # two pips must not write into one .venv

help:  ## list these verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: .venv/installed  ## make .venv and install the pipeline into it

.venv/installed: pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 install"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "installing the pipeline and its libraries into .venv: 1 GB, a minute or more ..."
	$(INSTALL) .
	@echo "byte code of Python's sources: some ten seconds ..."
	@$(COMPILE)
	@$(BIN)/python -m pipeline compile
	@touch $@

# .venv/test.installed and the like: an extra of pyproject.toml
.venv/%.installed: .venv/installed
	$(INSTALL) ".[$*]"
	@$(COMPILE)
	@touch $@

run: .venv/installed  ## run the bundled example (or CONFIG=my.yaml WORKFLOW=ThresholdWorkflow)
	@$(BIN)/luigi --module pipeline $(WORKFLOW) --config $(CONFIG) --local-scheduler

view: .venv/view.installed  ## look at the example in a browser (or CONFIG=my.yaml)
	@$(BIN)/blockwise-ilastik view --config $(CONFIG)

test: .venv/test.installed  ## run the tests
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not soak and not slurm and not container"

slurm: .venv/test.installed  ## run the tests against a real SLURM (apt-get install slurm-wlm; as root)
	REQUIRE_SLURM=1 $(BIN)/python -m pytest -n 4 --dist worksteal -m "slurm and not soak"

bench: .venv/bench.installed  ## compare the engines' speed and memory (about 5 minutes); writes benchmarks/results.json
	$(BIN)/python -m benchmarks

soak: .venv/test.installed  ## run the long tests: random faults, all random examples, and what `make test` shows by a few
	MANY_EXAMPLES=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m "soak or examples"

container: .venv/test.installed  ## build an image and run jobs in it (apt-get install buildah debootstrap; as root); or BASE=image
	REQUIRE_BUILDAH=1 BASE=$(BASE) $(BIN)/python -m pytest -m container tests/container

check: .venv/check.installed  ## look for mistakes of style and types (ruff, mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/check.installed  ## put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: .venv/installed  ## remove the example's results (lists them and asks)
	$(BIN)/blockwise-ilastik clean --config $(CONFIG)
