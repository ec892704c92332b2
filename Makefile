# One command for each need; `make help` lists them. Everything is made inside the clone: .venv, target, dist, runs.

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
PARITY := $(CURDIR)/.venv-parity
CUDA := $(CURDIR)/.venv-cuda
RUST_SOURCES := $(shell find rust -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
JOBS ?= 2
# Which random models `make parity` draws.
SEEDS ?= 1,2,3
# --long: also the Python tests that take longer than ten seconds, as `make check` does.
LONG ?=
# More arguments for the command that a target ends with: make quickstart ARGS="--seed 11"
ARGS ?=

export VIRTUAL_ENV := $(VENV)
export PYO3_PYTHON := $(BIN)/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_WARN_SCRIPT_LOCATION := 1
unexport CONDA_PREFIX PYTHONPATH PYTHONHOME

SAY = @printf '\033[1m==> %s\033[0m\n'

.DEFAULT_GOAL := help
.PHONY: help quickstart pictures build develop kernels-cuda gpu-check wheel-cuda packaging-cuda test test-rust test-rust-checked miri doc fuzz-build test-python check lint types bench wheel packaging seed fixtures parity parity-env clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: build ## build, install into .venv, run the loop on this machine, end with a table
	$(SAY) "Running the loop (at most 10 minutes)"
	$(BIN)/moevolve run quickstart $(ARGS)

pictures: build ## draw the README's pictures from a run: make pictures RUN=runs/quickstart-0-1
	@test -n "$(RUN)" || { echo "which run? make pictures RUN=runs/quickstart-0-1"; exit 2; }
	$(BIN)/python -m moevolve_tui.pictures $(RUN) docs/pictures

# --- environment and extension

$(VENV)/.made:
	$(SAY) "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "this Python lacks venv; on Debian: apt-get install python3-venv"; exit 2; }
	@command -v cargo >/dev/null || { echo "cargo is needed: install a Rust toolchain, 1.95 or newer"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(SAY) "Installing pip and maturin (a few seconds)"
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' 'maturin>=1.16,<2'
	@touch $@

$(VENV)/.installed: $(VENV)/.made $(RUST_SOURCES) pyproject.toml tui/pyproject.toml
	$(SAY) "Compiling the Rust core (3 to 5 minutes the first time on 2 cores, seconds later) and installing moevolve"
	@$(BIN)/maturin develop --release
	$(SAY) "Installing moevolve-tui"
	@$(BIN)/python -m pip install --quiet --editable ./tui
	@$(BIN)/python -m compileall -q -x '/(agents|evaluators|grader)/' python/moevolve tui/moevolve_tui || true
	@touch $@

$(VENV)/.developed: $(VENV)/.made pyproject.toml
	$(SAY) "Installing the development tools"
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

build: $(VENV)/.installed ## compile and install both packages into .venv

develop: build $(VENV)/.developed ## build, and install the development tools

# --- kernels for cards

$(CUDA)/.made: rust/kernels-cuda/requirements.txt
	$(SAY) "Making .venv-cuda: the CUDA compiler, 100 MB to fetch, 300 MB on disk"
	@test -x $(CUDA)/bin/python || $(PYTHON) -m venv $(CUDA)
	@$(CUDA)/bin/python -m pip install --quiet -r rust/kernels-cuda/requirements.txt
	@touch $@

kernels-cuda: $(CUDA)/.made ## compile the CUDA kernels into target/cuda, and show their registers; no card is needed
	$(SAY) "Compiling the CUDA kernels"
	@$(CUDA)/bin/python rust/kernels-cuda/compile.py --out target/cuda

wheel-cuda: kernels-cuda $(VENV)/.made ## the wheel moevolve-cuda13 into dist-cuda/
	$(SAY) "Building the wheel of the compiled kernels into dist-cuda/"
	@rm -rf dist-cuda target/wheel-cuda && mkdir -p target/wheel-cuda
	@cp -r cuda/. target/wheel-cuda/ && cp target/cuda/*.fatbin target/cuda/sources.txt target/wheel-cuda/moevolve_cuda13/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist-cuda target/wheel-cuda
	@ls -l dist-cuda

packaging-cuda: develop wheel wheel-cuda ## install both wheels in an empty environment, and run there without a driver and on the twin
	$(SAY) "Installing the wheel of the kernels beside the default one, outside the tree, and running there"
	@$(BIN)/python rust/kernels-cuda/compile.py --twin --out target/twin
	MOEVOLVE_DIST=$(CURDIR)/dist MOEVOLVE_DIST_CUDA=$(CURDIR)/dist-cuda MOEVOLVE_TWIN=$(CURDIR)/target/twin $(BIN)/python -m pytest tests/test_packaging_cuda.py

gpu-check: wheel wheel-cuda ## put the check of a card into dist/gpu: copy the folder to the machine, and run check.py there
	cargo build --release -p moevolve-kernels-cuda --example gpu_check
	@mkdir -p dist/gpu && cp target/release/examples/gpu_check target/cuda/*.fatbin target/cuda/sources.txt benches/gpu/check.py dist/gpu/
	@$(BIN)/python -m pip download --quiet --only-binary :all: --python-version 3.12 --platform manylinux_2_34_x86_64 --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
		--find-links dist --find-links dist-cuda --dest dist/gpu/wheels dist/moevolve-*.whl dist-cuda/*.whl
	@du -sh dist/gpu

# --- tests

test: test-rust test-python ## the tests that need neither torch nor a network, without the long ones (make test LONG=--long)

test-rust: $(VENV)/.made
	$(SAY) "Compiling and running the Rust tests"
	@if cargo nextest --version >/dev/null 2>&1; \
	then cargo nextest run --release --workspace --exclude moevolve-py; \
	else cargo test --release --workspace --exclude moevolve-py; fi

# Not part of `check`: the crates that read strangers' files have these checks in every build (Cargo.toml), and the rest takes
# four minutes to compile once more.
CHECKED := $(foreach crate,checkpoint model generate store sandbox,-p moevolve-$(crate) \
	--config profile.release.package.moevolve-$(crate).overflow-checks=true \
	--config profile.release.package.moevolve-$(crate).debug-assertions=true)

test-rust-checked: ## the Rust tests but the kernels' own, with overflow checks and debug assertions
	$(SAY) "Running Rust tests with overflow checks and debug assertions"
	cargo test --release $(CHECKED)

miri: ## the worker pool under miri: data races, leaks, undefined behaviour; needs nightly with miri
	$(SAY) "Running the worker pool under miri"
	MIRIFLAGS="-Zmiri-many-seeds=0..8" cargo +nightly miri test -p moevolve-kernels --test worker_pool

doc: ## the Rust documentation, without a warning
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --release --no-deps --workspace

fuzz-build: ## check that the fuzz targets compile
	$(SAY) "Checking the fuzz targets"
	cargo check --locked --release --manifest-path rust/fuzz/Cargo.toml --target-dir target

test-python: develop
	$(SAY) "Running the Python tests"
	$(BIN)/python -m pytest -n $(JOBS) $(LONG) $(ARGS)

check: LONG := --long
check: lint types doc fuzz-build kernels-cuda test packaging ## what must pass before a change lands

lint: develop
	$(SAY) "Checking format and lints"
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	$(BIN)/ruff format --check python tui cuda tests benches rust
	$(BIN)/ruff check python tui cuda tests benches rust
	$(BIN)/lint-imports

types: develop
	$(SAY) "Checking types, and the stub of moevolve._native against the module"
	$(BIN)/mypy python/moevolve tui/moevolve_tui
	$(BIN)/mypy --config-file tests/mypy.ini tests benches
	$(BIN)/python -m mypy.stubtest --allowlist tests/stubtest.txt --mypy-config-file pyproject.toml moevolve._native

# --- distributions

wheel: $(VENV)/.made ## both wheels into dist/
	$(SAY) "Building the wheels into dist/"
	@rm -rf dist
	@$(BIN)/maturin build --release --out dist
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist ./tui
	@ls -l dist

packaging: develop wheel
	$(SAY) "Installing the wheels into an empty environment outside the tree, and running there"
	MOEVOLVE_DIST=$(CURDIR)/dist $(BIN)/python -m pytest tests/test_packaging.py

seed: build ## make the seed checkpoint again (at most 20 minutes on 2 cores)
	$(SAY) "Training the seed checkpoint"
	$(BIN)/python -m moevolve.seed $(ARGS)

# --- beside torch and transformers, in an environment of their own

$(PARITY)/.made: tests/parity/requirements.txt
	$(SAY) "Making .venv-parity: torch and transformers, llama.cpp and a small model, 3 GB to fetch, 6 GB on disk, 10 minutes to build"
	@test -x $(PARITY)/bin/python || $(PYTHON) -m venv $(PARITY)
	@$(PARITY)/bin/python -m pip install --progress-bar on -r tests/parity/requirements.txt
	@$(PARITY)/bin/python -m pip install --quiet --no-deps kt-kernel==0.7.2
	@touch $@

parity-env: $(PARITY)/.made ## the environment that parity and bench need

fixtures: build parity-env ## write tests/fixtures/model, tests/fixtures/training and tests/fixtures/ggml.json again
	$(PARITY)/bin/python tests/parity/make_fixtures.py
	$(PARITY)/bin/python tests/parity/make_training_fixtures.py
	PYTHONPATH=python $(PARITY)/bin/python tests/parity/make_ggml_fixtures.py

parity: build parity-env ## compare with live transformers; SEEDS=1,2,3
	$(SAY) "Comparing with transformers"
	PYTHONPATH=python:tests/parity MOEVOLVE_PARITY=$(SEEDS) $(PARITY)/bin/python -m pytest -p no:cacheprovider tests/parity $(ARGS)

bench: develop parity-env ## measure training and generation against transformers, both sides in one run
	$(SAY) "Measuring a training step (about 5 minutes, torch.compile included)"
	PYTHONPATH=python $(PARITY)/bin/python benches/train.py $(ARGS)
	$(SAY) "Measuring generation (about 2 minutes)"
	PYTHONPATH=python $(PARITY)/bin/python benches/generate.py $(ARGS)
	$(SAY) "Measuring one block of experts (about 5 minutes, 8 GB of memory)"
	PYTHONPATH=python $(PARITY)/bin/python benches/moe_layer.py
	$(SAY) "Measuring SmolLM2 beside llama.cpp (about 2 minutes)"
	PYTHONPATH=python $(PARITY)/bin/python benches/smollm2.py
	$(SAY) "LoRA on SmolLM2, beside PEFT"
	PYTHONPATH=python $(PARITY)/bin/python benches/lora.py
	$(SAY) "Simulating the gate's errors and power (about 3 minutes)"
	$(BIN)/python benches/gate.py --require
	$(SAY) "Measuring 64 clients of a server beside one (about a minute)"
	$(BIN)/python benches/serve.py
	$(SAY) "Measuring the generation service (about 3 minutes)"
	PYTHONPATH=python $(PARITY)/bin/python benches/service.py
	$(SAY) "Measuring what bf16 products cost in accuracy"
	$(BIN)/python benches/precision.py

clean: ## remove what make made, runs excepted
	rm -rf .venv .venv-parity .venv-cuda target dist dist-cuda .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find python tui tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/moevolve/*.so
