"""How a worker or parameter server process uses its machine: threads and memory."""

import ctypes
import os

_INTRA, _INTER = "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"
# A function that spans tasks is answered while it runs: with one thread for ops it would wait for
# itself.
_LEAST_INTER = 2

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def share_of_cores(tasks: int) -> dict[str, str]:
  """Environment variables of TensorFlow with which `tasks` processes share this machine's cores.

  Those that are set already stay.

  Args:
    tasks: how many processes compute at the same time.

  Returns:
    {name: value}.
  """
  cores = len(os.sched_getaffinity(0))
  share = {_INTRA: max(1, cores // tasks), _INTER: max(_LEAST_INTER, cores // tasks)}
  return {name: str(threads) for name, threads in share.items() if name not in os.environ}


def allow_answers() -> None:
  """Gives TensorFlow, before its import, the threads for ops that a cluster's task needs."""
  chosen = os.environ.get(_INTER, "")
  threads = int(chosen) if chosen.isdecimal() else 0  # TensorFlow leaves what is no number.
  if (threads or len(os.sched_getaffinity(0))) < _LEAST_INTER:
    os.environ[_INTER] = str(_LEAST_INTER)


def keep_memory() -> None:
  """Lets the C library keep the memory that tensors free, for the tensors of the next step.

  Returning it to the system and taking it again costs a tenth of a step. Rows are not affected: a
  table gets its memory from the kernel, and returns it itself.
  """
  try:
    mallopt = ctypes.CDLL("libc.so.6").mallopt
  except (OSError, AttributeError):
    return  # Another C library.
  mallopt(_M_MMAP_THRESHOLD, 32 << 20)
  mallopt(_M_TRIM_THRESHOLD, 512 << 20)
  mallopt(_M_TOP_PAD, 16 << 20)
