"""An exception in a kernel is an error of its op, and the process goes on."""

import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARY = f"build/ops/{tf.__version__}/throwing_ops.so"

THROW = """
import sys
import tensorflow as tf
ops = tf.load_op_library(sys.argv[1])
try:
  ops.tfps_throw(what=sys.argv[2], in_parallel=sys.argv[3] == "True")
except tf.errors.OpError as error:
  print(type(error).__name__, error.message)
"""

# A reply in 16 bits is rounded from floats of twice its size, for which the limit leaves no room.
EXCHANGE = """
import resource
import numpy as np
import tensorflow as tf
from tfps import native
table = native.ops.tfps_table(shared_name="table", options="mf_dim=1023;num_shards=4")
def exchange(n):
  request = native.ops.tfps_make_request(keys=np.arange(1, n + 1), pushes=tf.zeros([0], tf.uint8))
  return native.ops.tfps_exchange(
    table, request, row_width=1024, wire_dtype=tf.bfloat16, references=False, accumulate=False)
exchange(1000)
megabytes = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() >> 20
resource.setrlimit(resource.RLIMIT_AS, ((megabytes + 1200) << 20,) * 2)
try:
  exchange(1 << 18)
except tf.errors.OpError as error:
  print(type(error).__name__, error.message)
print(exchange(1000).shape)
"""


def _run(program, *arguments):
  ran = subprocess.run(
    [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True
  )
  assert ran.returncode == 0, ran.stderr
  return ran.stdout


@pytest.fixture(scope="module")
def library():
  made = subprocess.run(
    [
      "make",
      "-s",
      "-f",
      "ops/ops.mk",
      LIBRARY,
      f"PYTHON={sys.executable}",
      f"OUT={pathlib.Path(LIBRARY).parent}",
      f"TENSORFLOW={pathlib.Path(tf.__file__).parent}",
    ],
    cwd=ROOT,
    text=True,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )
  assert made.returncode == 0, made.stdout
  return str(ROOT / LIBRARY)


@pytest.mark.parametrize("in_parallel", [False, True])
@pytest.mark.parametrize(
  "what, error",
  [
    ("bad_alloc", "ResourceExhaustedError .*TfpsThrow ran out of memory"),
    ("runtime_error", "InternalError .*TfpsThrow failed: a fault"),
    ("int", "InternalError .*TfpsThrow failed: unknown exception"),
  ],
)
def test_an_exception_is_the_ops_error(library, what, in_parallel, error):
  assert re.search(error, _run(THROW, library, what, str(in_parallel)))


def test_an_allocation_that_fails_is_the_ops_error():
  printed = _run(EXCHANGE)
  assert re.search("ResourceExhaustedError .*TfpsExchange ran out of memory", printed)
  assert re.search(r"^\(\d+,\)$", printed, re.MULTILINE)  # The same op works afterwards.
