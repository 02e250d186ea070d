# Everything runs from .venv, which `make setup` makes with any Python 3.10+; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEMO := $(VENV)/.demo

.PHONY: setup demo test test-kafka soak lint bench bench-scale docs clean

setup: $(STAMP)

# Make the environment with what stands in `.[$(1)]`.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { echo "clew needs Python 3.10 or newer as '$(PYTHON)'. Install it, or name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "==> Making $(VENV) (once; the embedded ClickHouse engine is a download of about 170 MB)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$(1)]'
	@touch $@
	@echo "==> Ready: $(BIN)/clew"
endef

$(STAMP): pyproject.toml
	$(call install,dev)

$(DEMO): pyproject.toml
	$(call install,demo)

demo: $(if $(wildcard $(STAMP)),setup,$(DEMO))
	@$(BIN)/clew demo

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Kafka's tests in a process of their own: the embedded engine takes one directory a process.
test: lint
	$(BIN)/python -m pytest --ignore=tests/kafka
	$(BIN)/python -m pytest tests/kafka

# With a real Apache Kafka broker, which the tests start (Java and Maven needed, the jars are fetched once into
# ~/.cache/clew-tests); CLEW_TEST_KAFKA=host:port takes one that runs.
test-kafka: setup
	@cd tests && ../$(BIN)/python -m kafka.broker
	CLEW_TEST_KAFKA=$${CLEW_TEST_KAFKA:-start} $(BIN)/python -m pytest tests/kafka

# Three collectors in one group, killed again and again for ten minutes.
soak: setup
	@cd tests && ../$(BIN)/python -m kafka.broker
	CLEW_TEST_KAFKA=start CLEW_SOAK_S=$${CLEW_SOAK_S:-600} $(BIN)/python -m pytest tests/kafka/test_soak.py

bench: setup
	$(BIN)/python -m benchmarks.run

bench-scale: setup
	$(BIN)/python -m benchmarks.scale --spans $(or $(N),10000000)

docs: setup
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
