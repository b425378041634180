"""The ops' sources and flags: one list, read as Starlark by ops/BUILD and as Python by ops/ops.mk.

Patterns are relative to ops/; a new file that matches one needs no edit here.
"""

CORE = ["core/*.cc"]  # Free of TensorFlow.
CORE_HEADERS = ["core/*.h"]
KERNELS = ["kernels/*.cc", "tfra/*.cc"]
KERNEL_HEADERS = ["kernels/*.h", "tfra/*.h"]
REGISTRATIONS = ["registrations/*.cc"]  # Compiled as one file: TensorFlow's headers are all that they cost.
TESTS = ["tests/*_test.cc"]  # Each is one program, linked with CORE.
TEST_HEADERS = ["tests/*.h"]

# No contraction into fused multiply-adds: a row is the same on every processor, bit for bit.
COPTS = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-ffp-contract=off", "-fno-math-errno"]

# What TensorFlow itself was compiled with, and what must therefore agree.
TENSORFLOW_COPTS = ["-DNDEBUG", "-D_GLIBCXX_USE_CXX11_ABI=1", "-DEIGEN_MAX_ALIGN_BYTES=64"]

LINKOPTS = ["-pthread"]
