# Every way to run, test and measure this project; `make` lists them.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := requirements/constraints.txt
# Stamp files: written after an install; older than its inputs after a change of these.
CAN_RUN := $(VENV)/.can-run
CAN_TEST := $(VENV)/.can-test

NODE_PACKAGES := clients/typescript examples/conversation/page tests/docs/node tests/clients/node

.DEFAULT_GOAL := help
.PHONY: help run say test check bench compare load gpu host-path live-text simulate pin docs env-example golden venv-qwen-tts venv-real-clients node clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(CAN_RUN)  ## Serve on http://127.0.0.1:8001 (ARGS="--port 9000")
	@exec $(BIN)/makima-tts serve $(ARGS)

say: $(CAN_RUN)  ## Speak into speech.wav (TEXT="Hello.")
	@test -n "$$TEXT" || { echo 'TEXT is missing: make say TEXT="Hello."' >&2; exit 2; }
	@exec $(BIN)/makima-tts say "$$TEXT" --out speech.wav $(ARGS)

test: $(CAN_TEST)  ## Run all tests, one file at a time on each of two cores (ARGS="-k cancel")
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(CAN_TEST)  ## Format, lint, types, layers, spelling, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@if [ -x .venvs/real-clients/bin/python ]; then set -x; $(BIN)/mypy --cache-dir .mypy_cache/real-clients \
		--python-executable .venvs/real-clients/bin/python integrations/*/*.py; fi
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m pytest tests/architecture

bench: $(CAN_TEST)  ## Measure the overhead of the service
	$(BIN)/python -m bench.service $(ARGS)

compare: $(CAN_TEST)  ## Measure Qwen3-TTS and, with venv-qwen-tts, the reference package (ARGS="--precisions int8")
	$(BIN)/python -m bench.compare $(ARGS)

load: $(CAN_TEST)  ## Find the number of live streams (ARGS="--checkpoint FOLDER --precision int8")
	$(BIN)/python -m bench.load --find $(ARGS)

gpu: $(CAN_TEST)  ## Test and measure on a GPU, in under eight minutes (ARGS=--dry: on a CPU; ARGS=--wheels: collect wheels)
	bench/gpu.sh $(ARGS)

host-path: $(CAN_TEST)  ## Measure the host's cost of GPU streams, with a simulated device
	$(BIN)/python -m bench.host_path $(ARGS)

live-text: $(CAN_TEST)  ## Measure the time to first audio of live text, with a simulated device
	$(BIN)/python -m bench.live_text $(ARGS)

simulate: $(CAN_TEST)  ## Run the scheduler in virtual time; update the plots of docs/scheduling.md (minutes)
	$(BIN)/python -m bench.simulate --docs $(ARGS)

pin: $(CAN_TEST)  ## Update requirements/constraints.txt
	$(BIN)/python scripts/pin.py

docs: $(CAN_TEST)  ## Update the generated parts of docs/protocol.md
	$(BIN)/python -m scripts.conversations
	$(BIN)/python -m scripts.protocol_docs

env-example: $(CAN_RUN)  ## Update .env.example from the settings
	$(BIN)/python scripts/env_example.py > .env.example

golden: .venvs/qwen-tts/.can-run  ## Update the golden files of the reference package (tests/parity/golden)
	PYTHONPATH=tests/official/stubs .venvs/qwen-tts/bin/python -m tests.parity.make_golden $(ARGS)

venv-qwen-tts: .venvs/qwen-tts/.can-run  ## Create an environment for the qwen-tts package, whose pins conflict with ours

venv-real-clients: .venvs/real-clients/.can-run  ## Create an environment for pipecat and livekit, which the tests run as clients

node: $(NODE_PACKAGES:%=%/node_modules/.ready)  ## Install the dependencies of the JavaScript tests

clean:  ## Remove installed, built and cached files; keep voices and models
	rm -rf $(VENV) .venvs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name node_modules -type d -prune -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Pass TEXT unexpanded: make would expand a $ in it.
override export TEXT := $(value TEXT)

.DELETE_ON_ERROR:

%/bin/python: | scripts/make-venv.sh
	@scripts/make-venv.sh $*

$(CAN_RUN): pyproject.toml $(PINS) | $(BIN)/python
	@echo "Installing the dependencies of the server (once; a minute or so)."
	@$(PIP) install --quiet --constraint $(PINS) --editable ".[preview]"
	@touch $@

$(CAN_TEST): pyproject.toml $(PINS) | $(BIN)/python
	@echo "Installing the dependencies of the tests, with torch (once; a few minutes)."
	@$(PIP) install --quiet --constraint $(PINS) --editable ".[preview,qwen3,wyoming,timings,dev]"
	@touch $(CAN_RUN) $@

%/node_modules/.ready: %/package-lock.json
	@npm ci --prefix $* --no-audit --no-fund
	@touch $@

# Installed without the package's own dependencies, which include gradio; requirements/qwen-tts.txt lists what it
# imports. pytest is included because the tests of its engine run in this environment.
.venvs/qwen-tts/.can-run: PIP = .venvs/qwen-tts/bin/python -m pip --disable-pip-version-check
.venvs/qwen-tts/.can-run: requirements/qwen-tts.txt pyproject.toml $(PINS) | .venvs/qwen-tts/bin/python
	@echo "Installing the qwen-tts package and its dependencies (once; two minutes, several gigabytes with CUDA)."
	@$(PIP) install --quiet --requirement requirements/qwen-tts.txt
	@$(PIP) install --quiet --no-deps qwen-tts==0.1.1
	@$(PIP) install --quiet --constraint $(PINS) --editable . pytest pytest-asyncio pytest-timeout
	@touch $@

# makima-tts is not installed here: the programs of users do not have it either.
.venvs/real-clients/.can-run: requirements/real-clients.txt | .venvs/real-clients/bin/python
	@echo "Installing pipecat and livekit with their dependencies (once; a minute or so)."
	@.venvs/real-clients/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement requirements/real-clients.txt
	@touch $@
