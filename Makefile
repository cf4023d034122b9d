# The same few words for people and for continuous integration. `make help` lists them.
PYTHON ?= python3
RUN_ENV := .venv
DEV_ENV := .venv-dev
BIN := $(DEV_ENV)/bin

# Scans for `make demo`; phantoms are made if none are named.
SCANS ?=

comma := ,
EXTRAS := dev,train$(if $(shell command -v nvidia-smi 2>/dev/null),$(comma)cuda)

.DEFAULT_GOAL := help
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help demo test test-all quick coverage check format image bench clean

help:  ## list these words
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(RUN_ENV)/ready  ## run the shipped model on phantoms, or on your scans: make demo SCANS=folder
	@mkdir -p demo
ifeq ($(strip $(SCANS)),)
	@test -e demo/phantoms/complete || { \
	  $(RUN_ENV)/bin/ct3d-edge data synth --force --out demo/phantoms --num-scans 6 --seed 7 --shape 256 256 40 && \
	  touch demo/phantoms/complete; }
endif
	@rm -f demo/overview.png
	@# Some scans without a prediction (exit code 1) are no failure of the demo; without any there is no picture.
	@$(RUN_ENV)/bin/ct3d-edge infer "$(or $(strip $(SCANS)),demo/phantoms/scans)" --provider auto \
	  --model models/phantom-light.onnx \
	  --out demo/results.jsonl --montage demo/overview.png || { code=$$?; \
	  if [ $$code -ne 1 ] || [ ! -e demo/overview.png ]; then exit $$code; fi; }
	@echo "results: demo/results.jsonl    picture: demo/overview.png    command: $(RUN_ENV)/bin/ct3d-edge"

test: $(DEV_ENV)/ready check  ## lint, types, import contract and the tests that take seconds
	$(PYTEST) -m "not slow"

test-all: $(DEV_ENV)/ready check  ## the same, with the tests that take minutes
	$(PYTEST)

quick: $(DEV_ENV)/ready  ## a first answer: the tests without Keras and without commands
	$(PYTEST) -m "not slow" $(foreach part,cli conversion evaluation training,--ignore=tests/$(part))

coverage: $(DEV_ENV)/ready  ## what `make test` executes of the package: the total here, every line in htmlcov/
	$(PYTEST) -m "not slow" --cov --cov-report=html
	$(BIN)/coverage report --format=total

check: $(DEV_ENV)/ready  ## lint, format, types and import contract, as the pre-commit hook runs them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_ENV)/ready  ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Any image with Python 3.11 or later; wheels are made for this machine's Python, so both have to be of one version.
BASE := docker.io/library/python:$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')-slim
BUILDER := $(firstword $(shell command -v buildah podman docker 2>/dev/null))

image:  ## an image of `ct3d-edge job` for containers: make image BASE=IMAGE BUILDER=podman
	$(PYTHON) -m pip wheel --quiet -c constraints.txt --wheel-dir container/wheels ".[dicom]"
	$(BUILDER) build --build-arg BASE=$(BASE) --tag ct3d-edge container

bench: $(DEV_ENV)/ready  ## measure on this machine, beside what you would use instead, and remake the tables
	$(BIN)/python -m bench.run_plan
	$(BIN)/python -m bench.machine
	$(BIN)/python -m bench.tables

clean:  ## remove environments and everything made here
	rm -rf $(RUN_ENV) $(DEV_ENV) demo build dist htmlcov .coverage .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# An environment is ready when its stamp is newer than what declares it.
$(RUN_ENV)/ready: pyproject.toml constraints.txt
	@echo "making $(RUN_ENV): ct3d-edge and what it needs to run"
	@$(PYTHON) -m venv $(RUN_ENV)
	@$(call install,$(RUN_ENV),.) || $(call unpinned,$(RUN_ENV),.)
	@touch $@

# Every extra that installs here: the NVIDIA libraries only beside an NVIDIA driver; without Keras where TensorFlow
# has no wheel (a new Python, another processor). A failure for any other reason, or in CI, is a failure.
$(DEV_ENV)/ready: pyproject.toml constraints.txt
	@echo "making $(DEV_ENV): ct3d-edge with the extras $(EXTRAS)"
	@$(PYTHON) -m venv $(DEV_ENV)
	@$(call install,$(DEV_ENV),.[$(EXTRAS)]) || $(call unpinned,$(DEV_ENV),.[$(EXTRAS)]) || $(call unpinned,$(DEV_ENV),.[dev])
	@touch $@

# $(call install,ENVIRONMENT,WHAT): with the tested versions; what pip says is kept for `unpinned` to look at.
install = { $(1)/bin/python -m pip install --quiet --constraint constraints.txt --editable "$(2)" 2>$(1)/pip.log || { cat $(1)/pip.log; false; }; }

# $(call unpinned,ENVIRONMENT,WHAT): only after "No matching distribution", which no second try would change.
unpinned = { test -z "$$CI" && grep -q "No matching distribution" $(1)/pip.log && echo "Not all of that installs here; trying the newest of $(2)" && \
	$(1)/bin/python -m pip install --quiet --editable "$(2)" 2>$(1)/pip.log || { cat $(1)/pip.log; false; }; }
