# Everything that a user or CI calls. `make demo` and `make test` set up their own environment in .venv.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_RUN := runs/demo
# Two test processes; the tests of a file stay in one.
SPREAD ?= --numprocesses 2 --dist loadgroup
AZURITE := runs/azurite/node_modules/azurite

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help demo test test-all fault-matrix lint format types clean train-demo-model chromium azurite
.PHONY: benchmark benchmark-bound benchmark-estimate benchmark-setup benchmark-agreement benchmark-long benchmark-scaling benchmark-driver benchmark-actors benchmark-lazy benchmark-memory benchmark-shared-weights benchmark-many benchmark-planted benchmark-hypergraph benchmark-million benchmark-growth benchmark-queries benchmark-labelling benchmark-harvest benchmark-harvest-memory benchmark-harvest-peer benchmark-harvest-gpu benchmark-gpu

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	HF_HUB_OFFLINE= $(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)  ## trace 2,000 prompts through the embedded model with 2 Ray actors and show what was found
	$(RUN)/tracer run configs/demo.yaml --out $(abspath $(DEMO_RUN))

test: $(INSTALLED) lint types  ## lint, types and the tests that CI runs
	$(RUN)/python -m pytest -q $(SPREAD)

test-all: $(INSTALLED) lint types chromium azurite  ## the same, the slow ones, those that need Chromium or Azurite
	$(RUN)/python -m pytest -q $(SPREAD) -m "not gpu and not faults"
	$(RUN)/python -m pytest -q -m faults tests

fault-matrix: $(INSTALLED)  ## processes, machines and disks really lost, each ending in equal tables (about 15 minutes)
	$(RUN)/python -m pytest -q -m faults tests

lint: $(INSTALLED)  ## ruff
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

format: $(INSTALLED)  ## let ruff rewrite
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

types: $(INSTALLED)  ## mypy
	$(RUN)/mypy

chromium:  ## the browser that the page tests drive
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium)

azurite: $(AZURITE)  ## the server of Azure's storage that the tests of abfss:// talk to

$(AZURITE):
	command -v npm >/dev/null || (apt-get update -qq && apt-get install -y -qq nodejs npm)
	npm install --silent --no-fund --no-audit --no-save --prefix runs/azurite azurite@3.35.0

train-demo-model: $(INSTALLED)  ## retrain the embedded model and its transcoders from the seed (about 25 minutes)
	$(RUN)/python jobs/train_demo_model.py --out $(abspath runs/demo-model) --seed 0

benchmark-setup: $(INSTALLED)  ## circuit-tracer in an environment of its own, for the benchmarks
	HF_HUB_OFFLINE= $(RUN)/python -m tests.benchmarks.environment

benchmark: $(INSTALLED)  ## times and memory beside circuit-tracer's, on this machine's CPU (about 10 minutes)
	$(RUN)/python -m tests.benchmarks.versus_circuit_tracer 8x256 12x768 demo

benchmark-many: $(INSTALLED)  ## small prompts, many in a pass, beside circuit-tracer
	$(RUN)/python -m tests.benchmarks.many_prompts demo

benchmark-agreement: $(INSTALLED)  ## do tracer and circuit-tracer give the same graphs?
	$(RUN)/python -m tests.benchmarks.agreement

benchmark-long: $(INSTALLED)  ## a prompt of 1,024 tokens within a memory budget
	$(RUN)/python -m tests.benchmarks.long_prompt prompt

benchmark-scaling: $(INSTALLED)  ## how time and memory grow with prompt length, layers and active features
	$(RUN)/python -m tests.benchmarks.long_prompt scaling

benchmark-bound: $(INSTALLED)  ## is the bound on influence true, and how many nodes does it decide?
	$(RUN)/python -m tests.benchmarks.bound

benchmark-estimate: $(INSTALLED)  ## what tracer estimate says beside what is measured
	$(RUN)/python -m tests.benchmarks.estimate

benchmark-driver: $(INSTALLED)  ## what the driver takes: a million prompts on simulated actors; real ones that wait
	$(RUN)/python -m tests.benchmarks.driver simulated
	$(RUN)/python -m tests.benchmarks.driver waiting

benchmark-actors: $(INSTALLED)  ## two actors against one, five pairs in turns; needs a quiet machine
	$(RUN)/python -m tests.benchmarks.driver actors

benchmark-lazy: $(INSTALLED)  ## memory of a transcoder set of 4 GB that stays on disk
	$(RUN)/python -m tests.benchmarks.lazy_set

benchmark-shared-weights: $(INSTALLED)  ## how much of their weights 1, 2 and 4 processes on one machine share
	$(RUN)/python -m tests.benchmarks.shared_weights

benchmark-memory: $(INSTALLED)  ## memory of driver and actors over a run of 10,000 prompts (about 5 minutes)
	$(RUN)/python -m tests.benchmarks.memory_trace

benchmark-planted: $(INSTALLED)  ## false discoveries and power of the hypergraph on 50 corpora of known truth (about 8 minutes)
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.planted

benchmark-hypergraph: $(INSTALLED)  ## time and memory of pairs and recurring sets, 10,000 and 100,000 graphs
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.hypergraph --n-graphs 10000
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.hypergraph --n-graphs 100000

benchmark-million: $(INSTALLED)  ## aggregation of a million graphs, then one per cent more; 20 GB of disk, quiet machine
	$(RUN)/python -m tests.benchmarks.million_graphs scale

benchmark-growth: $(INSTALLED)  ## aggregation by number of graphs, and that what is added equals what is built at once
	$(RUN)/python -m tests.benchmarks.million_graphs growth
	$(RUN)/python -m tests.benchmarks.million_graphs scale --n-graphs 100000 --compare --place runs/benchmarks/growth

benchmark-queries: $(INSTALLED)  ## the cookbook's queries over what `benchmark-million` left
	$(RUN)/python -m tests.benchmarks.million_graphs queries

benchmark-labelling: $(INSTALLED)  ## 10,000 calls to a language model against 500 requests a minute (20 minutes)
	$(RUN)/python -m tests.benchmarks.labelling_rate

benchmark-harvest: $(INSTALLED)  ## a harvest's pass beside a bare forward pass and the encoders' products
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.harvest pass --threads 1

benchmark-harvest-memory: $(INSTALLED)  ## memory of a harvest of 10^5, 10^6 and 10^7 tokens (about 30 minutes)
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.harvest memory

benchmark-harvest-peer: $(INSTALLED)  ## a harvest's pass beside SAEDashboard's collection of activations
	HF_HUB_OFFLINE= $(RUN)/python -m tests.benchmarks.harvest_versus_sae_dashboard setup
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.benchmarks.harvest_versus_sae_dashboard compare

benchmark-harvest-gpu: $(INSTALLED)  ## a harvest's pass at the shape of Gemma 2 2B, on a CUDA device
	$(RUN)/python -m tests.benchmarks.harvest gpu

benchmark-gpu: $(INSTALLED)  ## the same at the shape of Gemma 2 2B, on a CUDA device
	$(RUN)/python -m tests.benchmarks.gpu

clean:  ## remove the environment and local runs
	rm -rf $(VENV) runs
