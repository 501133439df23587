# Each target does all the set-up it needs, in a virtual environment inside the checkout.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Many tests wait for processes rather than compute. A file stays in one process, which makes
# what its tests share once, and those that take longest are begun first.
SIDE_BY_SIDE := -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check bench bench-small lock clean

demo: $(READY)
	$(BIN)/tautulli-pipeline demo

test: $(READY)
	rm -f .coverage .coverage.*
	$(BIN)/pytest $(SIDE_BY_SIDE) --cov --cov-report= -q
	$(BIN)/coverage report --fail-under=90 --skip-covered

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

bench: $(READY)
	$(BIN)/python -m benchmarks --rows 100000 1000000

# Shows that the benchmark works; its figures say nothing.
bench-small: $(READY)
	$(BIN)/python -m benchmarks --rows 2000 5000 --adr-rows 2000 --dlt-rows 2000 \
	    --results build/bench-small.md

# Exact versions for every platform; needs uv.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-strip-extras --no-header --no-annotate --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv data
