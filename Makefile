# What there is to run: `make help`. Nothing here calls a system package manager; everything is installed into $(VENV).
# Written for GNU Make 3.81, which macOS ships.

# The environment's folder, and the Python to create it with (found when empty).
VENV = .venv
PYTHON =
# An index with builds of torch for CPUs, for a Linux machine without a GPU; see the README.
TORCH_INDEX =
# Anything else for pip, and for pytest: make test PYTEST_ARGS="-k recognizer".
PIP_ARGS =
PYTEST_ARGS =

BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
PIP_INDEX = $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
DEMO_AUDIO = examples/audio
DEMO_OUT = out

.DEFAULT_GOAL = install
.PHONY: help install demo test bench costs load long noise soak check typing wheel clean

install: $(STAMP) ## create .venv and install (what plain `make` does)

help: ## this list
	@echo "make TARGET [TORCH_INDEX=URL] [PYTHON=python3.12] [PIP_ARGS=...] [PYTEST_ARGS=...]"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-10s%s\n", $$1, $$2 }'

demo: $(STAMP) ## one sentence said in two tones, two spoken replies
	@mkdir -p $(DEMO_OUT)
	@set -e; for tone in happy sad; do \
	  echo; echo "The same words, said in a $$tone voice: $(DEMO_AUDIO)/new_job_$$tone.wav"; \
	  $(BIN)/textpro-agent --wav $(DEMO_AUDIO)/new_job_$$tone.wav --out $(DEMO_OUT)/reply_to_$$tone.wav; \
	done
	@echo; echo "The two spoken replies: $(DEMO_OUT)/reply_to_happy.wav $(DEMO_OUT)/reply_to_sad.wav"
	@echo 'Next, ask something of your own: $(BIN)/textpro-agent --text "what is twenty three plus forty eight"'

test: check ## every check and every test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
	@echo "make test: all checks and tests passed"

bench: $(STAMP) ## every benchmark and one table; minutes
	@$(BIN)/python benchmarks/run_all.py
	@$(BIN)/python benchmarks/performance_page.py

load: $(STAMP) ## load and fuzz tests at full size; wants an idle machine
	@TEXTPRO_LOAD=full $(BIN)/python -m pytest tests/test_server_load.py tests/test_server_fuzz.py tests/test_server_fuzz_scripts.py \
	  -o log_cli=true -o log_cli_level=INFO --log-disable=textpro.serving.server --log-disable=textpro.serving.telephone.twilio $(PYTEST_ARGS)

long: $(STAMP) ## three minutes of speech without a stop
	@TEXTPRO_LONG=1 $(BIN)/python -m pytest -q tests/test_long_speech.py

soak: $(STAMP) ## sixteen callers for ten minutes: does memory stay flat?
	@mkdir -p $(DEMO_OUT)
	@$(BIN)/python tools/soak.py --csv $(DEMO_OUT)/soak.csv

noise: $(STAMP) ## ten minutes of each noise; goes on where it was stopped
	@mkdir -p $(DEMO_OUT)
	@$(BIN)/textpro-agent bench noise --keep $(DEMO_OUT)/noise.json

costs: $(STAMP) ## measure what the engine's work costs here, for the simulator
	@$(BIN)/python tools/measure_costs.py

check: typing ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/mypy

typing: $(STAMP) ## the folder of links through which type checkers see the package
	@$(BIN)/python tools/typing_links.py

wheel: $(STAMP) ## dist/*.whl
	@$(BIN)/python -m build --wheel --no-isolation

clean: ## remove what was generated, but not .venv
	rm -rf build dist out *.egg-info .typing .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once, and again when the dependencies change.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@if [ -z "$(TORCH_INDEX)" ] && [ "`uname -s`" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1 && \
	  ! ls -d $(VENV)/lib/python3*/site-packages/torch >/dev/null 2>&1; then \
	  echo "Note: no NVIDIA GPU was found, and pip may fetch torch's CUDA build of several GB."; \
	  echo "      For the small CPU build: make TORCH_INDEX=https://download.pytorch.org/whl/cpu"; \
	fi
	$(BIN)/python -m pip install --disable-pip-version-check --quiet $(PIP_INDEX) $(PIP_ARGS) \
	  -c constraints.txt -e '.[espeak,piper,mcp,aec,dev]'
	@touch $@

# The first of these that is 3.11 to 3.14 (what the pinned torch has builds for) and can create environments.
$(BIN)/python:
	@found=; incomplete=; \
	for candidate in $(if $(PYTHON),$(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	  "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1 || continue; \
	  if "$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$candidate; break; fi; \
	  incomplete=$$candidate; \
	done; \
	if [ -n "$$found" ]; then \
	  echo "Creating $(VENV) with $$found"; "$$found" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; \
	elif [ -n "$$incomplete" ]; then \
	  echo "$$incomplete has no venv module: install it (Debian and Ubuntu: the package python3-venv), then run make again." >&2; exit 1; \
	else \
	  echo "Python 3.11, 3.12, 3.13 or 3.14 is needed and $(if $(PYTHON),$(PYTHON) is none of them,none was found)." >&2; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; \
	fi
