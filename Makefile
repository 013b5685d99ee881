# Two commands on a fresh machine: make demo, make test. Both make and reuse .venv.
.PHONY: demo test chaos lint format bench lock venv clean

BIN := .venv/bin

venv:
	@tools/venv.sh

demo: venv
	@$(BIN)/python -m pgherd.demo

test: lint
	@tools/tls-postgres.sh || echo "(No PostgreSQL with TLS to be had: the tests of several machines use a distribution's, or are skipped.)"
	$(BIN)/python -m pytest

# Storms from seeds over clusters on hosts of their own (root and iproute2; else skipped). SEEDS, ROUNDS and NODES choose; with shards that
# split, move and merge meanwhile until there were so many CHANGES.
SEEDS ?= 11,12,13,14
ROUNDS ?= 6
NODES ?= 2
CHANGES ?= 50

chaos: venv
	PGHERD_CHAOS_SEEDS=$(SEEDS) PGHERD_CHAOS_ROUNDS=$(ROUNDS) PGHERD_CHAOS_NODES=$(NODES) PGHERD_CHAOS_CHANGES=$(CHANGES) \
		$(BIN)/python -m pytest tests/chaos -rs -s

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
