# The commands of the README, and what they are made of. ops/ops.mk compiles the C++.
PYTHON ?= python3.11
VENV ?= .venv
BAZEL ?= bazel
DOCS_VENV ?= .venv-docs
LINT_VENV ?= .venv-lint
installed := $(VENV)/installed
linters := $(LINT_VENV)/installed
spark := $(VENV)/installed-spark
docs := $(DOCS_VENV)/installed
wheel_tools := $(VENV)/installed-wheel

# Long files begin first; see tests/conftest.py.
suite := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help quickstart online lint lint-python lint-cpp format format-cpp test test-busy wheel matrix aarch64 bench \
  docs ops bazel clean
help:
	@echo "make quickstart  set everything up in $(VENV) and train the main job"
	@echo "make online      users, join, trainer and server on this machine: a model that follows its users"
	@echo "make lint        check style and types, in seconds, with the tools in $(LINT_VENV)"
	@echo "make format      write the sources as the style wants them"
	@echo "make test        set everything up in $(VENV) and run all tests (Python, C++, Bazel)"
	@echo "make test-busy   run all Python tests three times, beside six processes that compute for nothing"
	@echo "make wheel       build one wheel for every TensorFlow that tfps runs on, which needs no compiler"
	@echo "                 WHEEL='2.20 2.21' holds the ops for these"
	@echo "make matrix      try that wheel on every TensorFlow; writes the table of docs/versions.md"
	@echo "                 MATRIX='2.20 2.21@3.11' tries some; PYTHON310=... and the like name interpreters"
	@echo "make bench       run all benchmarks and write their figures into docs/benchmarks.md"
	@echo "                 BENCH='end_to_end ...' runs some of them; it takes hours on a quiet machine"
	@echo "make docs        build the site of docs/ and of the docstrings into build/site; a warning is an error"
	@echo "make ops         build the op library again after a change of its C++"
	@echo "make aarch64     cross-compile the C++ tests that need no TensorFlow, and run them in an emulator"
	@echo "make clean       remove all that was built, $(VENV), $(LINT_VENV) and $(DOCS_VENV)"
	@echo "Variables: PYTHON=$(PYTHON) (makes $(VENV)), VENV=$(VENV), LINT_VENV=$(LINT_VENV)"

quickstart: ops
	$(VENV)/bin/tfps train --config=configs/quickstart.py

online: ops
	$(VENV)/bin/python -m examples.online

lint: lint-python lint-cpp

lint-python: $(linters)
	$(LINT_VENV)/bin/ruff check --quiet
	$(LINT_VENV)/bin/ruff format --quiet --check
	$(LINT_VENV)/bin/mypy

# clang-tidy reads the kernels with the headers of the TensorFlow that is installed.
lint-cpp: $(linters) $(installed)
	@$(MAKE) -s -f ops/ops.mk -j2 lint PYTHON=$(PYTHON) LINT=$(LINT_VENV)/bin \
	  TENSORFLOW=$$($(VENV)/bin/python build_backend/installed_tensorflow.py)

format-cpp: $(linters)
	@$(MAKE) -s -f ops/ops.mk format PYTHON=$(PYTHON) LINT=$(LINT_VENV)/bin

format: $(linters) format-cpp
	$(LINT_VENV)/bin/ruff check --quiet --fix
	$(LINT_VENV)/bin/ruff format --quiet

test: $(linters) ops bazel $(spark)
	$(VENV)/bin/python -m pytest $(suite)

test-busy: ops $(spark)
	$(VENV)/bin/python -m tests.busy -- $(suite)

wheel: $(wheel_tools)
	$(VENV)/bin/python build_backend/make_wheel.py $(WHEEL)

# An item of MATRIX is a minor version of TensorFlow, or MINOR@PYTHON.
matrix: $(wheel_tools)
	rm -rf build/matrix/dist
	$(VENV)/bin/python build_backend/make_wheel.py --dist=build/matrix/dist \
	  $(sort $(foreach item,$(MATRIX),$(firstword $(subst @, ,$(item)))))
	$(VENV)/bin/python -m tests.matrix $(MATRIX)
	$(if $(MATRIX),,$(MAKE) aarch64 PYTHON=$(PYTHON))

bench: ops
	$(VENV)/bin/python benchmarks/report.py $(BENCH)

docs: $(docs)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

ops: $(installed)
	@$(VENV)/bin/python setup.py -q build_ext --inplace

bazel: $(installed)
	@case "$$($(BAZEL) --version 2>&1)" in \
	"bazel "[89].* | "bazel "[1-9][0-9].*) \
	  echo "Bazel 8 and newer read no WORKSPACE, so its build and tests of the ops are skipped.";; \
	"bazel "*) \
	  export PYTHON_BIN_PATH=$(abspath $(VENV)/bin/python) && \
	  $(BAZEL) test --config=unoptimized --build_tests_only=false //ops/...;; \
	*) \
	  echo "Bazel is not installed, so its build and tests of the ops are skipped.";; \
	esac

# Without the ops themselves: there is no TensorFlow for aarch64 here to compile or run them with.
aarch64:
	@for tool in aarch64-linux-gnu-g++ qemu-aarch64-static; do command -v $$tool >/dev/null || { \
	  echo "$$tool is missing: apt install g++-aarch64-linux-gnu qemu-user-static"; exit 1; }; done
	@$(MAKE) -s -f ops/ops.mk -j2 run-aarch64 PYTHON=$(PYTHON)
	@echo "Left out: ops/kernels and ops/tfra, which need TensorFlow's headers."

# Newer than all that says what belongs in the environment, so that a second call installs nothing.
$(installed): requirements.lock pyproject.toml setup.py $(wildcard build_backend/*.py)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "$(PYTHON) is not a Python 3.11: install one, or say PYTHON=<a Python 3.11>."; exit 1; }
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

# TensorFlow is not among them: ruff and mypy read the sources alone.
$(linters): requirements-lint.lock
	test -x $(LINT_VENV)/bin/pip || $(PYTHON) -m venv --clear $(LINT_VENV)
	$(LINT_VENV)/bin/pip install --disable-pip-version-check -r requirements-lint.lock
	touch $@

# Some 400 MB that only the tests of one engine need.
$(spark): requirements-spark.lock $(installed)
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements-spark.lock
	touch $@

$(wheel_tools): requirements-wheel.lock $(installed)
	$(VENV)/bin/pip install --disable-pip-version-check -r requirements-wheel.lock
	touch $@

# What builds the site, apart from all else: the sources are read, not imported.
$(docs): requirements-docs.lock
	test -x $(DOCS_VENV)/bin/pip || $(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install --disable-pip-version-check -r requirements-docs.lock
	touch $@

clean:
	rm -rf $(VENV) $(LINT_VENV) $(DOCS_VENV) build dist bazel-* *.egg-info tfps/_ops
