# Builds with make what ops/BUILD builds with Bazel. From the repository's root:
#   make -f ops/ops.mk library TENSORFLOW=<TensorFlow's package folder> OUT=<folder>
#   make -f ops/ops.mk build/cpp/asan/hash_test       (or tsan, or plain: of the library's own objects in OUT)
#   make -f ops/ops.mk run-aarch64                    (cross-compiles the tests and runs them in an emulator)
#   make -f ops/ops.mk lint TENSORFLOW=<the same> LINT=<folder of clang-format and clang-tidy>
PYTHON ?= python3
CXX ?= g++
OUT ?= build/cpp/library
.DELETE_ON_ERROR:

build/sources.mk: ops/sources.bzl
	@mkdir -p build
	@$(PYTHON) -c 'import runpy; [print(name, ":=", *value) \
	  for name, value in runpy.run_path("$<").items() if name.isupper()]' > $@.$$$$ && mv $@.$$$$ $@
-include build/sources.mk

core := $(wildcard $(addprefix ops/,$(CORE)))
kernels := $(wildcard $(addprefix ops/,$(KERNELS)))
registrations := $(sort $(wildcard $(addprefix ops/,$(REGISTRATIONS))))
tests := $(wildcard $(addprefix ops/,$(TESTS)))
settings := ops/sources.bzl ops/ops.mk
compile = @mkdir -p $(@D) && echo "$(CXX) $<" && $(CXX) $(COPTS) $(WERROR) -fPIC -MMD -MP -I. -c $< -o $@

# The op library. It is linked again when a source is removed, which changes the time of its folder.
library_objects := $(OUT)/ops_as_one.o $(patsubst %.cc,$(OUT)/%.o,$(core))
.PHONY: library
library: $(OUT)/_tfps_ops.so
link = @echo "link $@" && $(CXX) -shared $(filter %.o,$^) -o $@ $(LINKOPTS) \
  '-Wl,-rpath,$$ORIGIN/../../../tensorflow' -L$(TENSORFLOW) -l:libtensorflow_framework.so.2
$(OUT)/_tfps_ops.so: $(library_objects) $(sort $(dir $(core))) $(settings)
	$(link)
# An op for a test of the kernels' base class.
$(OUT)/throwing_ops.so: $(OUT)/throwing_ops.o $(settings)
	$(link)
tensorflow := $(TENSORFLOW_COPTS) -isystem $(TENSORFLOW)/include
# First, because it takes longest. TensorFlow's headers cost more than all kernels, so the kernels are compiled as one file.
$(OUT)/ops_as_one.o: $(OUT)/ops_as_one.cc $(settings)
	$(compile) $(tensorflow)
$(OUT)/throwing_ops.o: ops/tests/throwing_ops.cc $(settings)
	$(compile) $(tensorflow)
$(OUT)/ops_as_one.cc: $(sort $(dir $(kernels) $(registrations))) $(settings)
	@mkdir -p $(@D) && printf '#include "%s"\n' $(kernels) $(registrations) > $@
$(patsubst %.cc,$(OUT)/%.o,$(core)): $(OUT)/%.o: %.cc $(settings)
	$(compile) $(tensorflow)

# The C++ tests, plain, once for each sanitizer, and for another processor. With only the debug
# information that names lines, and without optimisation of the tests themselves: this saves two thirds of the time to compile.
plain_flags := -g1
asan_flags := -g1 -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
tsan_flags := -g1 -O1 -fsanitize=thread
aarch64_flags := -g1 -static

plain_core := $(patsubst %.cc,$(OUT)/%.o,$(core))
asan_core := $(patsubst ops/%.cc,build/cpp/asan/%.o,$(core))
tsan_core := $(patsubst ops/%.cc,build/cpp/tsan/%.o,$(core))
aarch64_core := $(patsubst ops/%.cc,build/cpp/aarch64/%.o,$(core))
build/cpp/aarch64/%: CXX := aarch64-linux-gnu-g++

define programs
$(1)_programs := $(patsubst ops/tests/%.cc,build/cpp/$(1)/%,$(tests))
.PHONY: $(1)
$(1): $$($(1)_programs)
build/cpp/$(1)/%.o: ops/%.cc $(settings)
	$$(compile) $$($(1)_flags)
build/cpp/$(1)/tests/%.o: ops/tests/%.cc $(settings)
	$$(compile) $$($(1)_flags) -O0
$$($(1)_programs): build/cpp/$(1)/%: build/cpp/$(1)/tests/%.o $$($(1)_core)
	@$$(CXX) $$($(1)_flags) $$^ -o $$@ $(LINKOPTS)
endef
$(foreach name,plain asan tsan aarch64,$(eval $(call programs,$(name))))
.SECONDARY:

# A table reserves addresses, and the emulator keeps a record of each page of them: of 8 GiB, a few megabytes.
emulator := qemu-aarch64-static -R 0x200000000
.PHONY: run-aarch64 $(addprefix run-,$(aarch64_programs))
run-aarch64: $(addprefix run-,$(aarch64_programs))
$(addprefix run-,$(aarch64_programs)): run-%: %
	@printed=$$($(emulator) $< 2>&1); failed=$$?; echo "$(<F) on aarch64: $$printed"; exit $$failed

# The style. The sources of a group are checked as one file, so that headers are read once: no two of a group may define
# one name differently, not even in unnamed namespaces.
LINT ?= .venv-lint/bin
formatted := $(wildcard ops/*/*.h ops/*/*.cc benchmarks/*.cc tests/*.cc)
tidied := build/lint/kernels_as_one build/lint/core_as_one
.PHONY: lint format $(tidied)
lint: $(tidied)
	@$(LINT)/clang-format --dry-run -Werror $(formatted)
format:
	@$(LINT)/clang-format -i $(formatted)
build/lint/core_as_one: $(core)
build/lint/kernels_as_one: $(kernels) $(registrations)
$(tidied):
	@mkdir -p $(@D) && printf '#include "%s"\n' $^ > $@.cc
	@echo "clang-tidy $@.cc" && { $(LINT)/clang-tidy --quiet $@.cc -- $(COPTS) $(tensorflow) -I. 2> $@.log || \
	  { cat $@.log; exit 1; }; }

-include $(shell find build -name '*.d' 2>/dev/null)
