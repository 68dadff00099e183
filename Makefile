# make setup   make the environment in .venv, from pinned versions
# make demo    run the main job end to end on an embedded corpus
# make test    lint, and all tests
# make slurm-test   the tests on a SLURM cluster of this machine alone
#
# Everything stays in this folder: .venv, .cache, runs.

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.complete
DEMO := runs/demo
SHELL_SCRIPTS := .ci/run $(wildcard slurm/*.sh)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONUNBUFFERED := 1
export HF_HUB_OFFLINE := 1
export HF_HOME := $(CURDIR)/.cache/huggingface
export TORCH_EXTENSIONS_DIR := $(CURDIR)/.cache/torch_extensions
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.cache/torchinductor
export TRITON_CACHE_DIR := $(CURDIR)/.cache/triton

.PHONY: setup operator demo test slurm-test slurm lint docs lock clean

setup: $(STAMP)

# Debian packs venv apart from Python; where it is missing and we may, install it.
$(STAMP): requirements.lock requirements-tagger.txt pyproject.toml setup.py $(wildcard kernels/csrc/*.cpp)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed; name it: make PYTHON=python3.11" >&2; exit 2; }
	@echo "Installing the pinned dependencies into $(VENV), 3 GB, a few minutes the first time"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { apt-get update && apt-get install -y python3-venv && \
		$(PYTHON) -m venv $(VENV); }
	@pip install --no-cache-dir --requirement requirements.lock
	@pip install --no-cache-dir --quiet --no-deps --requirement requirements-tagger.txt
	@$(MAKE) --no-print-directory operator
	@touch $(STAMP)

# The project itself, and the loss kernel's C++ operator where a compiler is there; after installing one, run
# this again.
operator:
	@rm -f kernels/task_kernels/*.so
	@PYTHONWARNINGS=ignore pip install --no-cache-dir --quiet --no-deps --no-build-isolation --editable .
	@ls kernels/task_kernels/*.so >/dev/null 2>&1 && echo "Loss kernel: C++ operator built" || \
		echo "Loss kernel: no C++ compiler, so torch operations, which are slower (g++, then make operator)"

demo: export OMP_NUM_THREADS := 1
demo: setup
	rm -rf $(DEMO)
	data_prep embedded $(DEMO)/corpus.jsonl
	data_prep text $(DEMO)/corpus.jsonl --out $(DEMO)/shards --vocab-size 4096 --sequence-length 64 --test-share 0.1
	@echo "pipeline pretrain configs/demo.yaml name=average objective.name=average"
	@echo "pipeline pretrain configs/demo.yaml name=minimax objective.name=minimax"
	@echo "(both at once, on one core each)"
	@pipeline pretrain configs/demo.yaml name=average objective.name=average 2>&1 | cat & average=$$!; \
	pipeline pretrain configs/demo.yaml name=minimax objective.name=minimax 2>&1 | cat & minimax=$$!; \
	wait $$average; first=$$?; wait $$minimax && exit $$first
	pipeline export $(DEMO)/minimax $(DEMO)/exported
	pipeline evaluate $(DEMO)/average $(DEMO)/minimax --data $(DEMO)/shards --out $(DEMO)/comparison.json
	@echo
	@echo "Runs:        $(DEMO)/average, $(DEMO)/minimax"
	@echo "This table:  $(DEMO)/comparison.json"
	@echo "TensorBoard: $(VENV)/bin/tensorboard --logdir $(DEMO)"
	@echo "Exported:    $(DEMO)/exported, for transformers' from_pretrained"

# A file of tests stays in one process, since its tests share what is costly to make. One process more than there are
# cores: the tests of clusters and of ranks mostly wait.
test: lint slurm
	pytest --numprocesses $$(($$(nproc) + 1)) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The tests on a real SLURM cluster, all of it on this machine.
slurm-test: setup slurm
	pytest tests/slurm

slurm:
	@command -v sbatch >/dev/null && PATH="$$PATH:/usr/sbin" command -v slurmctld >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends \
		slurmctld slurmd slurm-client munge; } || echo "No SLURM, and no right to install it: its tests are skipped"

lint: setup
	ruff check .
	ruff format --check .
	mypy
	shellcheck $(SHELL_SCRIPTS)

docs: setup
	pipeline keys --markdown > docs/configuration.md

# The versions that are installed now become the pinned ones. torch's CPU build asks for no triton, its CUDA
# build for one exact version: keep that one.
lock: setup
	pip freeze --all --exclude-editable | grep -v -e '^pip==' -e '^en[-_]core[-_]web[-_]sm' | sed 's/+cpu//' > requirements.lock

clean:
	rm -rf $(VENV) .cache runs
