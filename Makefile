# make help says what there is. Each target makes .venv first, from constraints.txt, with PYTHON (3.11 or newer).

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
OUT ?= runs/demo
SPHINX := $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet --doctree-dir docs/_build/doctrees

# Processes run side by side, so each takes one thread; the demo and the benchmarks run alone and take every core.
test lint docs science: export OMP_NUM_THREADS = 1

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs completion bench science clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '%s\n' '' 'To add something, copy its template and follow CONTRIBUTING.md:' \
	  '  a method    docs/templates/method.py    to src/counterpoint/methods/    tested by tests/test_methods.py' \
	  '  a data set  docs/templates/data_set.py  to src/counterpoint/data/sets/  tested by tests/test_data_NAME.py' \
	  '  a metric    docs/templates/metric.py    to src/counterpoint/metrics/    tested by tests/test_metrics_evaluate.py'

install: $(STAMP) ## .venv with the package, its extras and the tested versions of everything

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "counterpoint needs Python 3.11 or newer, and '$(PYTHON)' is not: run make PYTHON=python3.12 (or another name)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "'$(PYTHON) -m venv' failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all]'
	@touch $@

demo: $(STAMP) ## train, evaluate and report on the embedded data (minutes on two cores)
	$(BIN)/counterpoint demo --out $(OUT)
	@echo "report: $(abspath $(OUT))/report.html"

test: lint docs ## everything that must pass: lint, docs with doctests, tests and README snippets
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(STAMP) ## style, types and the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(STAMP) ## the documentation in docs/_build/html, its examples and notebooks run
	$(SPHINX) --fresh-env -b doctest docs docs/_build/doctest
	$(SPHINX) -b html docs docs/_build/html

completion: $(STAMP) ## the words of shell completion, after options have changed
	$(BIN)/python -m counterpoint.cli.completion

bench: $(STAMP) ## training steps timed against MultiVae; PEER is the python of its environment
	@test -n "$(PEER)" || { echo "name the python of an environment with multivae 1.0.3: make bench PEER=path/to/bin/python" >&2; exit 1; }
	$(BIN)/python benchmarks/step.py --peer "$(PEER)"

science: $(STAMP) ## the tests that train for minutes to check a claim
	$(BIN)/python -m pytest -m science

clean: ## remove the environment, caches and builds; runs/ stays
	rm -rf .venv build dist docs/_build docs/api/generated .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
