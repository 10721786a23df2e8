# make run    a node on this machine, and one call to it        (ARGS=--no-demo skips the call)
# make test   everything, with the real Asterisk and real SIP clients
# make lint   ruff, mypy --strict, import-linter
# make bench  what the bench holds so far
# make lock   resolve requirements.lock anew from pyproject.toml
# make clean  remove .venv and .run

PYTHON ?= python3
BIN = .venv/bin
ARGS ?=

.PHONY: run test lint bench lock clean

run: .venv/run.stamp
	@exec $(BIN)/sipagent demo $(ARGS)

test: .venv/dev.stamp
	@$(BIN)/python -m sipagent.asterisk.fetch --tool baresip
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev.stamp
	$(BIN)/python -m bench $(ARGS)

.venv/run.stamp: requirements.lock pyproject.toml
	@tools/venv.sh $(PYTHON) run requirements.lock

.venv/dev.stamp: requirements-dev.lock pyproject.toml
	@tools/venv.sh $(PYTHON) dev requirements-dev.lock

# No index and no address stands in a lock file: whoever installs brings their own.
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: .venv/dev.stamp
	$(COMPILE) --upgrade pyproject.toml --group build --group dev -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock pyproject.toml --group build -o requirements.lock

clean:
	rm -rf .venv .run
