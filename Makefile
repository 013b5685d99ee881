# Two commands on a fresh machine: make demo, make test. Both make and reuse .venv.
.PHONY: demo test lint format bench lock venv clean

BIN := .venv/bin

venv:
	@tools/venv.sh

demo: venv
	@$(BIN)/python -m pgherd.demo

test: lint
	$(BIN)/python -m pytest

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: venv
	@$(BIN)/python -m bench

lock: venv
	tools/lock.sh

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
