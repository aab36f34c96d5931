# One command for each habit; CI runs the same ones (.ci/run calls `make test`).
# Every target first makes sure of .venv: see deploy/dev/setup.sh.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed
INSTALLED_TEST := .venv/.installed-test
INSTALLED_FUZZ := .venv/.installed-fuzz
SECONDS_EACH ?= 60

.PHONY: help setup demo test check sim soak lab bench fuzz gen

help: ## show this list
	@grep -E '^[a-z]+: .*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(INSTALLED_TEST) ## make .venv with everything that development needs

demo: $(INSTALLED) ## play owners against real NTP servers on this machine (about 4 minutes)
	@$(PYTHON) -m deploy.demo

test: $(INSTALLED_TEST) ## all checks and all tests; as root also the lab's, which it says otherwise
	@deploy/dev/test.sh

check: $(INSTALLED_TEST) ## lint, format, types, import contracts, generated code: no tests
	@deploy/dev/check.sh

sim: $(INSTALLED_TEST) ## 100,000 simulated attempts: proven, refuted, inconclusive per world
	@$(PYTHON) -m tests.simulation

soak: $(INSTALLED_TEST) ## what takes longer: chance of a false strong proof per world, every attack on the product (30 minutes)
	@$(PYTHON) -m tests.simulation.soak
	@if [ "$$(id -u)" = 0 ]; then deploy/dev/lab.sh && $(PYTHON) -m tests.lab.attacks; \
	else echo "soak: LEAVING OUT the attacks on the product, which need root"; fi

lab: $(INSTALLED_TEST) ## only the tests with real daemons in network namespaces (root)
	@deploy/dev/lab.sh
	@$(PYTHON) -m pytest -m lab

bench: $(INSTALLED_TEST) ## speed, as ratios within one run
	@$(PYTHON) -m bench --record

fuzz: $(INSTALLED_FUZZ) ## search every decoder that meets the network; SECONDS_EACH=60 (about 40 minutes)
	@$(PYTHON) -m tests.fuzz --seconds $(SECONDS_EACH)

gen: $(INSTALLED_TEST) ## write poolproof/v1 anew from proto/
	@$(PYTHON) deploy/dev/generate.py

$(INSTALLED): pyproject.toml constraints.txt deploy/dev/setup.sh
	@deploy/dev/setup.sh run

$(INSTALLED_TEST): pyproject.toml constraints.txt deploy/dev/setup.sh
	@deploy/dev/setup.sh test

$(INSTALLED_FUZZ): pyproject.toml constraints.txt deploy/dev/setup.sh
	@deploy/dev/setup.sh fuzz
