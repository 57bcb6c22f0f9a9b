# Every way to run, test and measure this project; `make` lists them.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := requirements/constraints.txt
# Stamps: made after an install, older than what they were made from when that changes.
CAN_RUN := $(VENV)/.can-run
CAN_TEST := $(VENV)/.can-test

NODE_PACKAGES := clients/typescript examples/conversation/page tests/docs/node tests/clients/node

.DEFAULT_GOAL := help
.PHONY: help run say test check bench compare load gpu host-path live-text simulate pin docs env-example golden venv-qwen-tts venv-real-clients node clean

help:  ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(CAN_RUN)  ## Serve on http://127.0.0.1:8001 (ARGS="--port 9000")
	@exec $(BIN)/makima-tts serve $(ARGS)

say: $(CAN_RUN)  ## Speak into speech.wav (TEXT="Hello.")
	@test -n "$$TEXT" || { echo 'Say what? make say TEXT="Hello."' >&2; exit 2; }
	@exec $(BIN)/makima-tts say "$$TEXT" --out speech.wav $(ARGS)

test: $(CAN_TEST)  ## Run all tests, a file on each of two cores (ARGS="-k cancel")
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

bench: $(CAN_TEST)  ## Measure the service's own overhead
	$(BIN)/python -m bench.service $(ARGS)

compare: $(CAN_TEST)  ## Measure Qwen3-TTS beside its reference, if venv-qwen-tts is there (ARGS="--precisions int8")
	$(BIN)/python -m bench.compare $(ARGS)

load: $(CAN_TEST)  ## Find how many can be spoken to at once (ARGS="--checkpoint FOLDER --precision int8")
	$(BIN)/python -m bench.load --find $(ARGS)

gpu: $(CAN_TEST)  ## Prove it on a GPU, in under eight minutes (ARGS=--dry: on a CPU; ARGS=--wheels: to take along)
	bench/gpu.sh $(ARGS)

host-path: $(CAN_TEST)  ## Measure what the host does for a GPU's streams, with a device that only takes time
	$(BIN)/python -m bench.host_path $(ARGS)

live-text: $(CAN_TEST)  ## Measure how soon a text is heard that is still being written, with such a device
	$(BIN)/python -m bench.live_text $(ARGS)

simulate: $(CAN_TEST)  ## Play the scheduler in virtual time; renew the plots of docs/scheduling.md (minutes)
	$(BIN)/python -m bench.simulate --docs $(ARGS)

pin: $(CAN_TEST)  ## Renew requirements/constraints.txt
	$(BIN)/python scripts/pin.py

docs: $(CAN_TEST)  ## Renew the generated parts of docs/protocol.md
	$(BIN)/python -m scripts.conversations
	$(BIN)/python -m scripts.protocol_docs

env-example: $(CAN_RUN)  ## Renew .env.example from the settings
	$(BIN)/python scripts/env_example.py > .env.example

golden: .venvs/qwen-tts/.can-run  ## Renew what the reference package is known to compute (tests/parity/golden)
	PYTHONPATH=tests/official/stubs .venvs/qwen-tts/bin/python -m tests.parity.make_golden $(ARGS)

venv-qwen-tts: .venvs/qwen-tts/.can-run  ## An environment for the qwen-tts package, whose pins clash with ours

venv-real-clients: .venvs/real-clients/.can-run  ## An environment for pipecat and livekit, which speak through this service in tests

node: $(NODE_PACKAGES:%=%/node_modules/.ready)  ## Install what the tests in JavaScript need

clean:  ## Remove what was installed, built or cached; voices and models stay
	rm -rf $(VENV) .venvs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name node_modules -type d -prune -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# As it was written: make would read a $ in it.
override export TEXT := $(value TEXT)

.DELETE_ON_ERROR:

%/bin/python: | scripts/make-venv.sh
	@scripts/make-venv.sh $*

$(CAN_RUN): pyproject.toml $(PINS) | $(BIN)/python
	@echo "Installing what serving needs (once; a minute or so)."
	@$(PIP) install --quiet --constraint $(PINS) --editable ".[preview]"
	@touch $@

$(CAN_TEST): pyproject.toml $(PINS) | $(BIN)/python
	@echo "Installing what the tests need, torch among it (once; a few minutes)."
	@$(PIP) install --quiet --constraint $(PINS) --editable ".[preview,qwen3,wyoming,dev]"
	@touch $(CAN_RUN) $@

%/node_modules/.ready: %/package-lock.json
	@npm ci --prefix $* --no-audit --no-fund
	@touch $@

# Without its own list of needs, which would bring gradio; requirements/qwen-tts.txt has what it imports. With
# pytest, since the tests of its engine run in there.
.venvs/qwen-tts/.can-run: PIP = .venvs/qwen-tts/bin/python -m pip --disable-pip-version-check
.venvs/qwen-tts/.can-run: requirements/qwen-tts.txt pyproject.toml $(PINS) | .venvs/qwen-tts/bin/python
	@echo "Installing the qwen-tts package with what it needs (once; two minutes, several gigabytes with CUDA)."
	@$(PIP) install --quiet --requirement requirements/qwen-tts.txt
	@$(PIP) install --quiet --no-deps qwen-tts==0.1.1
	@$(PIP) install --quiet --constraint $(PINS) --editable . pytest pytest-asyncio pytest-timeout
	@touch $@

# Nothing of ours is installed in there: the programs that people have know nothing of it either.
.venvs/real-clients/.can-run: requirements/real-clients.txt | .venvs/real-clients/bin/python
	@echo "Installing pipecat and livekit with what they bring (once; a minute or so)."
	@.venvs/real-clients/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --requirement requirements/real-clients.txt
	@touch $@
