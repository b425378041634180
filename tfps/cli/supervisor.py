"""Keeps a cluster running: restarts what dies, so that the job goes on from a checkpoint."""

from __future__ import annotations

import pathlib
import signal
import time
from collections.abc import Mapping, Sequence

from tfps.cli import processes
from tfps.cluster.exit_codes import RESTART, is_worth_a_restart

_CHIEF_MAY_EXPLAIN_SECONDS = 5.0  # what the chief has to end by itself after another has failed
_CHIEF_MAY_FINISH_SECONDS = 30.0  # what it has to finish what has begun after SIGTERM
_OTHERS_END_SECONDS = 20.0  # what the others have to end by themselves after the chief
_SETTLING_SECONDS = 1.0  # in which it turns out what the end of a worker belongs to
_TERMINATE_SECONDS = 5.0  # from SIGTERM to SIGKILL
_SETTLED_SECONDS = 60.0  # who has run for so long did not fail "at once"
_LONGEST_PAUSE_SECONDS = 30.0


class Task:
  """One task of the cluster: the settings of its processes, and the process that runs now.

  Args:
    name: "chief", "worker 0", "ps 1", "evaluator".
    env: its whole environment.
    log: the file that gets the output of all its processes.
  """

  def __init__(self, name: str, env: Mapping[str, str], log: pathlib.Path):
    self.name = name
    self.job = name.split(maxsplit=1)[0]
    self.env = env
    self.log = log
    self.process: processes.Child | None = None
    self.start_at = 0.0  # when to start it, while there is none
    self.ended_at: float | None = None  # when its end was noticed
    self.restarts = 0  # in a row

  def exit_code(self) -> int | None:
    """None while it runs or waits for its start."""
    return None if self.process is None else self.process.exit_code()

  def send(self, signum: int) -> None:
    """Sends a signal to its process and to all that this has started, if there is one."""
    if self.process is not None:
      self.process.send(signum)


class Supervisor:
  """Starts tasks, and starts them again.

  A worker or evaluator is started again alone. When the chief or a parameter server is lost, so is
  what tables and dense weights held: chief, workers and parameter servers all start again. Only
  those are started again whose exit code says that it may help (`exit_codes.is_worth_a_restart`).

  Args:
    program: what every task runs.
    tasks: the chief first.
    max_restarts: how often a task may be restarted in a row; a minute of running resets the count.
    received: the list to which signal handlers append; the first one ends the job.
  """

  def __init__(
    self, program: Sequence[str], tasks: Sequence[Task], max_restarts: int, received: list[int]
  ):
    self._program = program
    self._tasks = list(tasks)
    self._chief = self._tasks[0]
    self._servers = [task for task in self._tasks if task.job in ("worker", "ps")]
    self._evaluators = [task for task in self._tasks if task.job == "evaluator"]
    self._max_restarts = max_restarts
    self._received = received
    self._reported: set[str] = set()
    self._given_up: set[str] = set()
    self.stream = processes.Stream()

  def run(self) -> int:
    """Runs the job; returns its exit code, the chief's where it ended by itself."""
    code = self._follow_cluster()
    if code == 0 and not self._received:
      code = self._follow_evaluators()
    self._terminate()
    self.stream.drain()
    return code

  def kill(self) -> None:
    """Ends all that still runs, at once."""
    self._kill(self._tasks)

  def _follow_cluster(self) -> int:
    while True:
      self._start_due()
      self.stream.pump(0.2)
      if self._received:
        return self._stop()
      for evaluator in self._evaluators:
        self._follow_evaluator(evaluator)
      code = self._chief.exit_code()
      if code is None:
        if not self._follow_servers():
          return 1
      elif not self._may_restart(self._chief):
        return self._wait_for_others(code)
      elif not self._restart_cluster(self._chief):
        return 128 - code if code < 0 else code

  def _stop(self) -> int:
    """Lets the chief end as on SIGTERM, which may take a while; a second signal cuts it short.

    Returns the exit code.
    """
    self.stream.say(f"Ending the cluster: {signal.Signals(self._received[0]).name}.")
    if self._runs(self._chief):
      self._chief.send(signal.SIGTERM)
    deadline = time.monotonic() + _CHIEF_MAY_FINISH_SECONDS
    while self._runs(self._chief) and len(self._received) == 1 and time.monotonic() < deadline:
      self.stream.pump(0.1)
    if self._chief.exit_code() == 0:
      return self._wait_for_others(0)
    return 128 + self._received[0]

  def _follow_servers(self) -> bool:
    """Lets a server that has failed start again, alone or with all others.

    Returns whether the job goes on.
    """
    now = time.monotonic()
    failed = [task for task in self._servers if task.exit_code()]
    for task in failed:
      task.ended_at = task.ended_at or now
    # Where a parameter server has failed, what workers do follows from it.
    for task in sorted(failed, key=lambda task: task.job != "ps"):
      waited = now - (task.ended_at or now)
      if task.job == "worker" and self._may_restart(task):
        # A worker that ends on the chief's order does not end first.
        return waited <= _SETTLING_SECONDS or self._restart(task)
      if waited > _SETTLING_SECONDS and not self._may_restart(task):
        # A chief that ends now ends the others too: a failure is reported only if it goes on.
        self._report([task], expected={0})
      if waited > _CHIEF_MAY_EXPLAIN_SECONDS:
        if self._may_restart(task):
          return self._restart_cluster(task)
        self.stream.say("Ending the cluster, because not all of it runs.")
        return False
      return True
    return True

  def _follow_evaluator(self, task: Task) -> None:
    code = task.exit_code()
    if code is not None and self._may_restart(task) and task.name not in self._given_up:
      self._restart(task)
    else:
      self._report([task], expected={0})

  def _may_restart(self, task: Task) -> bool:
    code = task.exit_code()
    return self._max_restarts > 0 and code is not None and is_worth_a_restart(code)

  def _restart(self, task: Task) -> bool:
    """Lets a task that has ended start again; returns whether it may."""
    return self._restart_all([task], task, task, "starting it again")

  def _restart_cluster(self, cause: Task) -> bool:
    """Ends chief, workers and parameter servers, and lets them start again.

    Returns whether they may.
    """
    cluster = [self._chief, *self._servers]
    what = "chief, workers and parameter servers start again"
    return self._restart_all(cluster, self._chief, cause, what)

  def _restart_all(self, tasks: Sequence[Task], counted: Task, cause: Task, what: str) -> bool:
    code = cause.exit_code() or 0
    began = counted.process.started_at if counted.process else time.monotonic()
    if time.monotonic() - began > _SETTLED_SECONDS:
      counted.restarts = 0
    if counted.restarts >= self._max_restarts:
      self._given_up.add(cause.name)
      self._report([cause], expected=set())
      self.stream.say(
        f"Giving up: started again {self._max_restarts} times in a row (--max-restarts), without "
        f"running for {_SETTLED_SECONDS:.0f} s."
      )
      return False
    counted.restarts += 1
    pause = min(2.0 ** (counted.restarts - 1), _LONGEST_PAUSE_SECONDS)
    self.stream.drain()
    self.stream.say(
      f"{cause.name} ended with {processes.describe_exit(code)}; {what} in {pause:.0f} s (restart "
      f"{counted.restarts} of at most {self._max_restarts} in a row)."
    )
    self._kill(tasks)
    for task in tasks:
      task.start_at = time.monotonic() + pause
    return True

  def _wait_for_others(self, code: int) -> int:
    """The chief has ended: the others end by themselves, or are said not to."""
    self.stream.drain()
    told = len(self._received)
    deadline = time.monotonic() + _OTHERS_END_SECONDS
    while any(self._runs(task) for task in self._servers):
      self.stream.pump(0.1)
      if len(self._received) > told:
        return 128 + self._received[-1]
      if time.monotonic() > deadline:
        names = ", ".join(task.name for task in self._servers if self._runs(task))
        self.stream.say(
          f"Ending {names}: still running {_OTHERS_END_SECONDS:.0f} s after the chief."
        )
        break
    self._report(self._servers, {0} if code == 0 else {0, 1, code, RESTART})
    return code

  def _follow_evaluators(self) -> int:
    """Waits until they have evaluated what the ended training has left; returns the exit code."""
    if any(self._runs(task) for task in self._evaluators):
      self.stream.say("Training has ended; waiting for the evaluator.")
    while any(task.exit_code() is None for task in self._evaluators):
      self._start_due()
      self.stream.pump(0.1)
      if self._received:
        return 128 + self._received[0]
      for task in self._evaluators:
        self._follow_evaluator(task)
    self._report(self._evaluators, expected={0})
    return 0

  def _report(self, tasks: Sequence[Task], expected: set[int]) -> None:
    for task in tasks:
      code = task.exit_code()
      if code is not None and code not in expected and task.name not in self._reported:
        self._reported.add(task.name)
        self.stream.drain()
        self.stream.say(
          f"{task.name} ended with {processes.describe_exit(code)}; {task.log} ends with:"
        )
        for line in task.process.last_lines() if task.process else ():
          self.stream.say(f"  {line}")

  def _runs(self, task: Task) -> bool:
    return task.process is not None and task.exit_code() is None

  def _start_due(self) -> None:
    for task in self._tasks:
      if task.process is None and time.monotonic() >= task.start_at:
        task.ended_at = None
        self._reported.discard(task.name)
        task.process = processes.Child(
          task.name, self._program, task.env, task.log, foreground=task is self._chief
        )
        self.stream.add(task.process)

  def _terminate(self) -> None:
    """Ends those that still run, in order."""
    for task in self._tasks:
      if self._runs(task):
        task.send(signal.SIGTERM)
    deadline = time.monotonic() + _TERMINATE_SECONDS
    while time.monotonic() < deadline and any(self._runs(task) for task in self._tasks):
      self.stream.pump(0.1)

  def _kill(self, tasks: Sequence[Task]) -> None:
    for task in tasks:
      task.send(signal.SIGKILL)
    for task in tasks:
      if task.process is not None:
        task.process.process.wait()
        self.stream.drain()
        self.stream.remove(task.process)
        task.process.log_file.close()
        task.process = None
