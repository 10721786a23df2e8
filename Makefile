# make run    a node on this machine, and one call to it        (ARGS=--no-demo skips the call)
# make test   everything, with the real Asterisk and real SIP clients
# make lint   ruff, mypy --strict, import-linter
# make bench  what a packet costs, and the worker under load (needs cc and OpenSSL's headers)
# make chaos  twenty live calls, and every fault struck under them: who hears what, is anything lost  (ARGS="--seed 7")
# make fuzz   what comes from outside, bent and broken                                          (ARGS="--seconds 600")
# make soak   calls that come and leave for half an hour: is memory flat     (ARGS="--minutes 30 --rate 1"; needs cc, too)
# make generate   the docs' reference and Grafana's dashboards from the code; SIPAGENT_RUNBOOKS=https://... for their links
# make docs   docs/ as a site, in site/; a warning is an error
# make sbom   build/sbom.json: what a node is made of, as CycloneDX, from requirements.lock
# make audit  asks a vulnerability service about each of them (ARGS="-s osv": another one); needs the Internet
# make lock   resolve requirements.lock anew from pyproject.toml
# make compose-test   the containers, built and called for real
# make clean  remove what the above made here

PYTHON ?= python3
BIN = .venv/bin
PEERS = .venv-peers/bin
ARGS ?=

.PHONY: run test test-pure test-peers lint bench chaos fuzz soak generate docs sbom audit lock compose-test clean
.PHONY: venv-run venv-dev venv-peers

run: venv-run
	@exec $(BIN)/sipagent demo $(ARGS)

test: venv-dev
	@$(BIN)/python -m sipagent.asterisk.fetch --tool baresip --tool prometheus --tool amtool
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(if $(ARGS),,@$(MAKE) --no-print-directory test-pure test-peers)

# What every packet passes once more, as the Python that it is where nothing could be compiled.
test-pure: venv-dev
	SIPAGENT_PURE_PYTHON=1 $(BIN)/python -m pytest -q -n 2 tests/rtp tests/test_native.py tests/test_media.py \
		tests/test_ring.py tests/test_kept.py \
		tests/test_barge_in.py tests/test_recording.py tests/test_tap.py tests/test_line.py tests/xai/test_client.py

# Clients of other projects judge the stand-in; their dependencies fight with ours, so they live apart.
test-peers: venv-peers
	$(PEERS)/python -m pytest -q -m peers -p no:cacheprovider tests/standin/test_peers.py

lint: venv-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv-dev
	$(BIN)/python -m bench $(ARGS)

chaos fuzz soak: venv-dev
	$(BIN)/python -m bench $@ $(ARGS)

generate: venv-dev
	@$(BIN)/python tools/generate.py

docs: venv-dev
	$(BIN)/mkdocs build

# What is installed is what the lock says, by hash: so is the bill. The warning is of a graph that a lock has not got.
SBOM ?= build/sbom.json
sbom: venv-dev
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
		--mc-type application --output-reproducible --output-format JSON --output-file $(SBOM)
	@echo "$(SBOM): $$(grep -c '"purl"' $(SBOM)) packages"

# Strict: a package that the service does not know, or a service that cannot be reached, must not pass for "no holes known".
audit: venv-dev
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes -r requirements.lock --progress-spinner off $(ARGS) || { \
		echo "audit: NOT PASSED: holes are listed above, or no vulnerability service answered and nothing was checked" >&2; \
		exit 1; }

# These ask each time: what a stamp's date tells is not whether the checkout was moved or the Python replaced.
venv-run:
	@tools/venv.sh $(PYTHON) run requirements.lock

venv-dev:
	@tools/venv.sh $(PYTHON) dev requirements-dev.lock

venv-peers:
	@tools/venv.sh $(PYTHON) peers requirements-peers.lock .venv-peers

# The image built and called for real with podman (ARGS=all: the profiles too); exit code 2 says "not run here, because ..." or what failed.
compose-test:
	@tools/compose-test.sh $(ARGS)

# No index and no address stands in a lock file: whoever installs brings their own.
COMPILE = $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
lock: venv-dev
	$(COMPILE) --upgrade pyproject.toml --group build --group dev -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock pyproject.toml --group build -o requirements.lock
	$(COMPILE) --upgrade pyproject.toml --group build --group peers -o requirements-peers.lock

clean:
	rm -rf .venv .venv-peers .run build
	find sipagent -name '*.so' -delete
