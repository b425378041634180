"""Exit codes of tasks, as `tfps launch` and Kubernetes read them."""

FAILED = 1  # The program or its settings are at fault: started again, it fails again.
# The task did nothing wrong, but another one is lost: start it again. It is SIGUSR1's code, which a
# Kubernetes TFJob of restartPolicy ExitCode takes for "may be tried again", as it does a signal's.
RESTART = 138


def is_worth_a_restart(code: int) -> bool:
  """Whether a process that ended with `code` should be started again.

  Args:
    code: an exit code; negative, as subprocess gives it, for a signal.
  """
  return code < 0 or code >= 128
