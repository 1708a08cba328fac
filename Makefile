# Everything a developer does. Each target sets up what it needs on a fresh Debian machine (root or sudo).
.DEFAULT_GOAL := help
.PHONY: help prepare run stop test lint soak fuzz bench constraints deb clean

SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=CI)
PYTHON := $(SUDO) .venv/bin/python

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

prepare: ## install the Debian packages and the virtual environments
	@devstack/prepare.sh test

run: ## start the embedded controller, push two images, show the main job; leaves it running (HOSTS=2: two workers)
	@devstack/prepare.sh run "$(HOSTS)"
	@$(PYTHON) -m devstack up $(HOSTS)

stop: ## stop the embedded controller
	@if [ -x .venv/bin/python ]; then $(PYTHON) -m devstack down; fi

lint: prepare
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

# Test processes side by side, each with a controller of its own. 0: one process
JOBS ?= 4
test: lint ## linters and all tests, with the short forms of soak and fuzz (TESTS=tests/unit: these only)
	$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(TESTS)

soak: prepare ## the long runs: token load, garbage collection, damaged storages, deployment (each says how long it takes)
	@for script in $$(grep -l __main__ tests/soak/*.py); do $(PYTHON) -m tests.soak.$$(basename $$script .py) || exit 1; done
	$(PYTHON) -m tests.fuzz.storage.run

bench: prepare ## every benchmark: ratios, measured side by side in one run
	@for script in $$(grep -l __main__ bench/*.py); do $(PYTHON) -m bench.$$(basename $$script .py) || exit 1; done

fuzz: prepare ## fuzz the reading of certificates, guided by coverage (SECONDS=600)
	$(PYTHON) -m tests.fuzz.run --seconds $(or $(SECONDS),600)

constraints: ## write constraints.txt anew, with the newest releases of what setup.cfg requires
	@tools/write_constraints.sh

deb: ## build the Debian packages for this machine's release into dist/
	@devstack/prepare.sh deb
	devstack/build_deb.sh

clean: ## stop it, and remove everything that make made in this checkout
	@if [ -x .venv/bin/python ]; then $(PYTHON) -m devstack remove; fi
	$(SUDO) rm -rf .run .venv .venv-keystone .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
