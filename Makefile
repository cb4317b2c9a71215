# Two commands set everything up: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV   ?= .venv
SERVE  ?= 1
# three test files at a time on two cores, as most tests wait for processes that they start; one thread each:
# threads of two processes on two cores wait for one another. A worker that dies is replaced once: xdist gives its
# file to the next one, which would die of it again, without an end
PARALLEL ?= --numprocesses 3 --dist loadfile --max-worker-restart 1
# a test that hangs ends its process with every thread's stack; none takes a third of that
TIMEOUT := -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
test: export OMP_NUM_THREADS = 1
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check bench gpu clean

help:
	@echo "make demo        install, fetch Fashion-MNIST, train LeNet, export, profile, open the page (SERVE=0: no page)"
	@echo "make test        install what the tests need and run them"
	@echo "make check       ruff, mypy --strict, import-linter"
	@echo "make bench       speed and memory, as ratios against references measured in the same run"
	@echo "make gpu         what runs on the NVIDIA GPU here, as one page gpu.md (PYTHON=…, WHEELS=DIR; installs nothing)"
	@echo "make test-all    the longer proofs, too"

NEW_ENOUGH = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cnnkit needs Python 3.11 or newer: make PYTHON=python3.11 …"; exit 1; }

$(BIN)/python:
	@$(NEW_ENOUGH)
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "this Python cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }

# one stamp for each set of extras, renewed when the dependencies change
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@echo "installing cnnkit[$*] into $(VENV); the first time takes a few minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-all
	$(BIN)/cnnkit datasets --fetch fashion-mnist
	$(BIN)/cnnkit train lenet
	$(BIN)/cnnkit export lenet --fp16
	$(BIN)/cnnkit profile lenet --backend all
	@echo "What this made:"; ls -l artifacts/lenet
ifneq ($(SERVE),0)
	$(BIN)/cnnkit serve lenet
endif

test: $(VENV)/.installed-all,test
	$(BIN)/python -m pytest -m "not slow" --hypothesis-profile repeated $(PARALLEL) $(TIMEOUT)

test-all: $(VENV)/.installed-all,test
	$(BIN)/python -m pytest

check: $(VENV)/.installed-all,check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/.installed-all,test
	$(BIN)/python -m tests.benchmarks

# protobuf opens what a release before its own made, so an old grpcio-tools makes it
serve/rpc/inference_pb2.py: serve/rpc/inference.proto
	$(PYTHON) -m venv build/protoc && build/protoc/bin/pip install --quiet 'grpcio-tools==1.74.*'
	cd serve/rpc && ../../build/protoc/bin/python -m grpc_tools.protoc -I. --python_out=. inference.proto

# with the machine's own Python and whatever torch is there: no environment is made
gpu:
	@$(NEW_ENOUGH)
	@$(PYTHON) -m tests.gpu $(if $(WHEELS),--wheels "$(WHEELS)")

clean:
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
