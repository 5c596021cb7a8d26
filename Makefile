# The one-command tasks. On a bare Debian 12, as root: make cloud, make test.

PROFILE ?= embedded
DRIVER ?= libvirt
HOSTS ?= 1
STATE ?= .state
PORT ?= 8774
CLOUD ?= auto
GUESTS ?=
NAME ?= create
ARGS ?=
# Half of the workers run what mostly waits, as long as there is any: the other half keep the processors busy.
WORKERS ?= $(shell expr 4 + $$(nproc))

# Each test run starts hundreds of processes; none is to compile anew what the last one has compiled.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN := $(VENV)/bin
# Debian's own is built with profile-guided optimisation; one that was not takes a fifth longer over everything.
PYTHON ?= $(shell command -v /usr/bin/python3.11 || command -v python3.11 || command -v python3)
SOURCES := pyproject.toml setup.py cellcloud/_fastsched.pyx $(wildcard cellcloud/*.pxi)
STAMP := $(VENV)/.installed

.PHONY: cloud down status setup packages build dev check test oracle parity tempest slow bench annotate clean

cloud: setup ## start a whole cloud and say how to use it
	@$(BIN)/cellcloud up --profile $(PROFILE) --driver $(DRIVER) --hosts $(HOSTS) --port $(PORT) \
		--state $(STATE) --cache .cache --clouds-file clouds.yaml --cloud-name $(CLOUD)

down: ## stop what `make cloud` started; guests run on, but with GUESTS=1 they are powered off too
	@test ! -x $(BIN)/cellcloud || $(BIN)/cellcloud down --state $(STATE) $(if $(GUESTS),--guests)

status: ## list the cloud's processes
	@$(BIN)/cellcloud status --state $(STATE) || [ $$? = 3 ] # none runs

setup: packages $(STAMP) ## install what is missing: Debian packages, Python packages, the compiled kernel

packages:
	@etc/install-debian.sh debian-packages

$(BIN)/python:
	@mkdir -p .cache
	@flock .cache/setup.lock sh -c 'test -x $(BIN)/python || { echo "Making the virtual environment"; \
		$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }'

$(STAMP): $(SOURCES) | $(BIN)/python
	@mkdir -p .cache
	@flock .cache/setup.lock etc/install-python.sh $(BIN) $@

build: setup ## compile the kernel anew
	CELLCLOUD_REQUIRE_EXT=1 $(BIN)/python setup.py --quiet build_ext --inplace --force --parallel 2

dev: setup ## compile the kernel with bounds checks
	CELLCLOUD_REQUIRE_EXT=1 CELLCLOUD_EXT_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace --force --parallel 2

annotate: setup ## write what Cython makes of the kernel, line by line
	$(BIN)/cython --annotate --output-file build/_fastsched.c cellcloud/_fastsched.pyx
	@echo build/_fastsched.html

check: setup ## style, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What tests need of Debian is installed beside Python's packages. Modules are compiled before the workers begin, each of
# which would compile all of them.
test: packages ## `make check`, and beside it every test there is
	@mkdir -p .cache
	@etc/install-debian.sh debian-packages-test & installing=$$!; \
		$(MAKE) --no-print-directory $(STAMP); made=$$?; wait $$installing && exit $$made
	@nice $(MAKE) --no-print-directory check >.cache/check.log 2>&1 & checking=$$!; \
		$(BIN)/pytest --collect-only --quiet >.cache/collected.log 2>&1; \
		$(BIN)/pytest --numprocesses $(WORKERS); tested=$$?; \
		wait $$checking; checked=$$?; cat .cache/check.log; exit $$((tested | checked))

oracle: setup ## compare with what real Nova answered: make oracle FILE=tests/oracle/nova34-decisions.jsonl.gz
	$(BIN)/python -m tests.oracle.check $(FILE)

parity: setup ## compare what is taken and answered with what Nova publishes in its package; NAME='POST /servers' for one
	$(BIN)/python -W ignore -m tests.parity $(if $(filter command line,$(origin NAME)),$(NAME))

tempest: setup ## OpenStack's own tests of the Compute API against a cloud of fake hosts; NAME=REGEX for some
	$(BIN)/python -m tests.tempest $(if $(filter command line,$(origin NAME)),'$(NAME)')

slow: setup ## only the tests that take minutes, at their full length; `make test` runs them shorter
	$(BIN)/pytest --numprocesses $(WORKERS) -m slow --long

bench: setup ## make bench NAME=create ARGS="--json"
	$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

clean: ## remove what was built; the state of clouds stays
	rm -rf $(VENV) build *.egg-info .cache .mypy_cache .ruff_cache .pytest_cache cellcloud/*.so
