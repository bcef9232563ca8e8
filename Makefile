# Two commands matter: `make demo` and `make test`.  Each sets up all it needs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= 2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
DEMO := src/emo2/assets/demo
# What the studio and its tests call: two speech synthesisers and a software OpenGL.
DEBIAN := flite espeak-ng libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri
export OMP_NUM_THREADS ?= 2

.PHONY: help setup demo test test-slow check format bench system clean

help:
	@echo "make demo    set up, then make demo.mp4 from our own photo and voice"
	@echo "make test    set up, then run the tests (offline after the set-up)"
	@echo "make check   format, lint, types, import layers"
	@echo "make setup   only the environment: .venv with the command .venv/bin/emo2"
	@echo "make format | test-slow | bench | clean"

setup: .venv/ready

demo: .venv/ready
	$(BIN)/emo2 generate $(DEMO)/photo.jpg $(DEMO)/voice.flac -o demo.mp4

test: .venv/ready-dev system
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: .venv/ready-dev system
	$(BIN)/python -m pytest -q -m slow

check: .venv/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

format: .venv/ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready-dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# torch first and from its CPU builds where they can be had: the default build carries gigabytes of CUDA.
# On a machine with a GPU: make setup TORCH_CPU=no
TORCH_CPU ?= yes
.venv/torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 is not installed; apt-get install python3.11 python3.11-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) -V); emo2 needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module; apt-get install python3-venv"; exit 1; }
	@echo "setting up .venv (some minutes, once)"
	$(PYTHON) -m venv .venv
	@if [ "$(TORCH_CPU)" = yes ]; then \
	  $(PIP) install "torch==$(TORCH)+cpu" -c constraints.txt 2>/dev/null || \
	  $(PIP) install "torch==$(TORCH)" -c constraints.txt; \
	else $(PIP) install "torch==$(TORCH)" -c constraints.txt; fi
	@touch $@

.venv/ready: .venv/torch pyproject.toml
	$(PIP) install -e . -c constraints.txt
	@touch $@

.venv/ready-dev: .venv/ready
	$(PIP) install -e ".[dev,studio,train,full,metrics]" -c constraints.txt
	@touch $@

system:
	@missing=""; for p in $(DEBIAN); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  apt-get update -qq >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "these Debian packages are missing:$$missing; install them (the studio and its tests use them)"; exit 1; fi

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .import_linter_cache
