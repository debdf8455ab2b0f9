# `make audit` runs the default study; `make test` runs every test. Both set up .venv first.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

# Two processes: the tests of one file run in one, so that what they share is made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

# Several pips at once, each with a part of the list, take half the time of one. Where a package
# needs what is no pin, such as CUDA's libraries, or a part failed, one pip does the rest.
# Packages are installed without compiling them, which takes a minute: most of their modules are
# never imported. Those that are have to be kept once they are compiled.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
unexport PYTHONDONTWRITEBYTECODE

.PHONY: audit test check docs test-cluster lint lint-style lint-types format reference picture clean help

help:
	@echo "make audit       run the default study (config.yaml) and print its headline"
	@echo "make test        run all tests"
	@echo "make check       lint, and the quick tests: some minutes on two cores"
	@echo "make test-cluster  run a small study on a real SLURM of this machine (installs it, as root)"
	@echo "make lint        ruff, mypy, import-linter, snakefmt, snakemake --lint"
	@echo "make format      format the code"
	@echo "make picture     run the default study and put its report's picture into docs/ for the README"
	@echo "make reference   write the reference pages, the config's JSON schema and the lists of claims"
	@echo "make docs        build the documentation as a site, in site/"

audit: .venv/ready
	$(SNAKEMAKE)
	@$(BIN)/lesion summary

test: .venv/ready
	$(PYTEST) --durations=30

check: lint
	$(PYTEST) -m "not slow"

test-cluster: .venv/ready
	.ci/packages
	LESION_TEST_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

lint: lint-style lint-types

lint-types: .venv/ready
	$(BIN)/mypy

lint-style: .venv/ready
	$(BIN)/ruff format --check src tests workflow benchmarks docs
	$(BIN)/ruff check src tests workflow benchmarks docs
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

format: .venv/ready
	$(BIN)/ruff format src tests workflow benchmarks docs
	$(BIN)/ruff check --fix src tests workflow benchmarks docs
	$(BIN)/snakefmt Snakefile workflow

reference: .venv/ready
	$(BIN)/lesion reference --write

# Strict: a link or an anchor that leads nowhere is an error.
docs: .venv/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

picture: audit
	$(BIN)/python benchmarks/picture.py results/default/report/index.html docs/report.png

.venv/ready: envs/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("lesion needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	grep -v '^#' envs/requirements.txt | xargs -P 4 -n 20 $(PIP) --no-compile --no-deps \
		&& $(BIN)/python -m pip check >/dev/null \
		|| { echo "one pip installs the rest"; $(PIP) --no-compile -r envs/requirements.txt; }
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf results site .snakemake
