PYTHON ?= python3
BIN := .venv/bin
MODEL ?= tiny_modelscope

.PHONY: demo test test-full lint clean

# The main job from a fresh machine: FP, naive and QVD at two bit widths, ending in a table and a report.
# MODEL=tiny_latte, tiny_animatediff, tiny_latte_cc: another family.
demo: .venv/run
	$(BIN)/python run.py experiment=demo model=$(MODEL)

# Minutes, on two cores: one of each kind of check.
test: .venv/dev
	$(BIN)/python -m pytest -n 2 --dist=worksteal

# All of them: whole runs that are killed and resumed, every family × method × dtype, long searches.
test-full: .venv/dev
	$(BIN)/python -m pytest -m '' -n 2 --dist=worksteal --cov --cov-report=term:skip-covered

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/run: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/run
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv outputs
