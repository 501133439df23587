# Each target creates the virtual environment that it needs, inside the checkout.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Many tests wait for processes, so four workers run in parallel. The tests of one file run in one
# worker, which creates their shared fixtures once. The slowest files start first.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-slow coverage chromium fuzz check docs dist bench bench-small lock clean

demo: $(READY)
	$(BIN)/tautulli-pipeline demo

test: $(READY)
	$(BIN)/pytest $(PARALLEL) $(MEASURED) -q -m "not slow"

# Longer variants: more kills, more random rows, full disks, the second start of each scenario.
test-slow: $(READY)
	$(BIN)/pytest $(PARALLEL) $(MEASURED) -q -m slow

# Runs `test` and `test-slow` and measures both.
coverage: $(READY)
	rm -f .coverage .coverage.*
	$(MAKE) test MEASURED="--cov --cov-report="
	$(MAKE) test-slow MEASURED="--cov --cov-append --cov-report="
	$(BIN)/coverage report --fail-under=90 --skip-covered

# Random damaged databases, archives and messages for ten minutes, or for MINUTES.
fuzz: $(READY)
	$(BIN)/python -m tautulli_pipeline_tests.fuzz --minutes $(or $(MINUTES),10)

# The tests that need a browser are skipped without it. Installing it needs root and Debian.
chromium:
	command -v chromium || \
	    { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; }

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Builds the pages of docs/ as a site in build/site. It needs no network, and neither do its readers.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	    echo "$(PYTHON) is not Python 3.11 or newer. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; \
	    exit 1; } >&2
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

# Builds the wheel and the sdist in dist/.
dist: $(READY)
	rm -rf dist && mkdir dist
	$(BIN)/python -c "from flit_core.buildapi import build_sdist, build_wheel; \
	    build_wheel('dist'); build_sdist('dist')"

bench: $(READY)
	$(BIN)/python -m benchmarks --rows 100000 1000000

# Checks that the benchmark works. Its results are not meaningful.
bench-small: $(READY)
	$(BIN)/python -m benchmarks --rows 2000 5000 --adr-rows 2000 --dlt-rows 2000 \
	    --results build/bench-small.md

# Pins exact versions for every platform. Requires uv.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-strip-extras --no-header --no-annotate pyproject.toml
lock:
	$(COMPILE) --upgrade --group dev -o requirements.lock
	$(COMPILE) --constraint requirements.lock -o deploy/requirements.lock

clean:
	rm -rf .venv build dist
